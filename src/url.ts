import { isIPv4 } from 'node:net';
import { printable } from './text.ts';

/** Characters of a value that are shown: enough to recognise it by. */
const SHOWN = 80;

/**
 * What keeps a text from being protocol, host and port, in words that follow its name; undefined where nothing does.
 * @param protocols such as `https:`
 */
export function originProblem(value: string, protocols: readonly string[]): string | undefined {
  const wanted = protocols.map((protocol) => `${protocol}//`).join(' or ');
  const named = /^([\w.-]+)=(?=\w+:\/\/)/.exec(value);
  if (named !== null) return `has a name before the URL: leave out ${named[1]}=`;
  if (/^\[\s*["']|^\{/.test(value)) return 'is JSON: write the URLs alone, separated by commas';
  if (/["'`]/.test(value)) return 'has a quotation mark in it';
  if (value.includes(';')) return 'has a semicolon: separate URLs by commas';
  if (/\s/.test(value)) return 'has a space or a line feed in it: separate URLs by commas';
  if (!protocols.some((protocol) => value.toLowerCase().startsWith(`${protocol}//`))) {
    return `must be a URL that begins with ${wanted}`;
  }
  const [, userInfo, host = '', rest = ''] = /^\w+:\/\/([^/?#]*@)?([^/?#]*)(.*)$/.exec(value) ?? [];
  if (userInfo !== undefined) return 'must be protocol, host and port only, without a user and a password';
  if (host === '') return 'has no host';
  if (rest !== '' && rest !== '/') return 'must be protocol, host and port only, without a path';
  return host.startsWith('[') ? bracketsProblem(host) : hostProblem(host);
}

/** Whether what is sent to a host of a URL stays on this machine. */
export function isLoopback(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, '');
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

/** A URL as it can be shown: without a user, a password or a query, which may be secret. */
export function shownUrl(value: string): string {
  if (value.includes('-----BEGIN')) return 'a PEM file';
  const bare = printable(value.replace(/\/\/[^/?#]*@/, '//…@').replace(/[?#].*$/s, '?…'));
  return bare.length > SHOWN ? `${bare.slice(0, SHOWN)}…` : bare;
}

function bracketsProblem(host: string): string | undefined {
  const [, address, port] = /^\[([^\]]*)\](?::(.*))?$/.exec(host) ?? [];
  if (address === undefined) return 'has no port after a colon behind the brackets';
  if (address.includes('%')) return 'has a zone in its IPv6 address, which a URL cannot have';
  if (!URL.canParse(`http://[${address}]`)) return 'has no IPv6 address in its brackets';
  return portProblem(port);
}

function hostProblem(host: string): string | undefined {
  if (host.length > 260) return 'has no host name that can be resolved';
  const parts = host.split(':');
  if (parts.length > 2) {
    const [last = '', ...before] = parts.toReversed();
    const address = before.toReversed().join(':');
    const example =
      /^\d{4,5}$/.test(last) && URL.canParse(`http://[${address}]`) ? `[${address}]:${last}` : `[${host}]`;
    return `has an IPv6 address without brackets: write ${example}`;
  }
  const [name = '', port] = parts;
  // The URL class reads 10.1 as 10.0.0.1, and 010.0.0.1 as 8.0.0.1.
  if (/^[\d.]+$/.test(name) && !isIPv4(name)) return `has no IPv4 address: ${name}`;
  if (!/^[\w.-]+$/.test(name) || !URL.canParse(`http://${name}`)) return 'has no host name that can be resolved';
  return portProblem(port);
}

function portProblem(port: string | undefined): string | undefined {
  if (port === undefined || (/^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65_535)) return undefined;
  return port === '' ? 'has a colon without a port' : 'has a port that is no number from 1 to 65535';
}
