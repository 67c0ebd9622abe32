import { isIPv4 } from 'node:net';
import { printable } from './text.ts';

/** Characters of a value that are shown, enough to recognise it. */
const SHOWN = 80;

/**
 * Protocol, host and port of a URL that has nothing else, or what is wrong with it, in words that follow its name.
 * @param protocols such as `https:`
 */
export function parseOrigin(
  value: string,
  protocols: readonly string[],
  defaultPort: string,
): { readonly origin: string } | { readonly problem: string } {
  const problem = originProblem(value, protocols);
  if (problem !== undefined) return { problem };
  const { protocol, hostname } = new URL(value);
  // The URL class drops the default port of the protocol, so it is looked for in the text.
  const port = /:(\d+)\/?$/.exec(value)?.[1] ?? defaultPort;
  return { origin: `${protocol}//${hostname}${port === '' ? '' : `:${Number(port)}`}` };
}

/** What etcd accepts as a peer URL: scheme, host and port, or the path of a socket; nothing else. */
const PEER_URL = /^(https?:\/\/(\[[\da-fA-F:.]+\]|\w([\w.-]*\w)?):\d{1,5}|unixs?:\/\/[\w./:-]+)$/;

export function isPeerUrl(text: string): boolean {
  return text.length <= 512 && PEER_URL.test(text) && URL.canParse(text);
}

/** Whether two lists have the same URLs, in whatever order. */
export function sameUrls(a: readonly string[], b: readonly string[]): boolean {
  return normalized(a) === normalized(b);
}

function normalized(urls: readonly string[]): string {
  return urls
    .map((url) => URL.parse(url)?.href ?? url)
    .toSorted()
    .join();
}

/** Whether only programs on the same machine can listen there. @param hostname of a URL, with its brackets */
export function isLoopback(hostname: string): boolean {
  return /^(localhost|127(\.\d+){3}|\[::1\]|\[::ffff:7f[0-9a-f]{2}:[0-9a-f]+\])$/.test(hostname);
}

/** Whether it is the address of no machine, at which programs listen on all of theirs. @param hostname of a URL, with its brackets */
export function isUnspecified(hostname: string): boolean {
  return /^(0\.0\.0\.0|\[::\]|\[::ffff:0:0\])$/.test(hostname);
}

/** The host of a URL without brackets, and its port: the URL class drops the default port of the protocol. */
export function addressOf(url: string): { readonly host: string; readonly port: number } {
  const { protocol, hostname, port } = new URL(url);
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || (protocol === 'https:' ? 443 : 80)) };
}

function originProblem(value: string, protocols: readonly string[]): string | undefined {
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
