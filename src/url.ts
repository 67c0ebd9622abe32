import { isIPv4 } from 'node:net';
import { printable } from './text.ts';

/** Characters of a value that are shown, enough to recognise it. */
const SHOWN = 80;

/** What `parseOrigin` accepts, in words that follow the name of the value. */
export const ORIGIN_RULE =
  'must be a URL that begins with http:// or https://: protocol, host and port only, an IPv6 address in brackets';

const ORIGIN = /^(https?:)\/\/(\[[\da-f:.]+\]|[\w.-]{1,255})(?::(\d{1,5}))?\/?$/i;

/** Protocol, host and port of a URL that has nothing else; undefined for anything else. */
export function parseOrigin(value: string, defaultPort: string): string | undefined {
  // The URL class drops the default port of the protocol, so the port is taken from the text.
  const [, protocol = '', host = '', port = defaultPort] = ORIGIN.exec(value) ?? [];
  const url = URL.parse(`${protocol}//${host}`);
  // The URL class reads 10.1 as 10.0.0.1, and 010.0.0.1 as 8.0.0.1.
  const isHost = !/^[\d.]+$/.test(host) || isIPv4(host);
  const isPort = port === '' || (Number(port) >= 1 && Number(port) <= 65_535);
  if (url === null || !isHost || !isPort) return undefined;
  return `${url.protocol}//${url.hostname}${port === '' ? '' : `:${Number(port)}`}`;
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

/** A URL as it can be shown: without a user, a password or a query, which may be secret. */
export function shownUrl(value: string): string {
  if (value.includes('-----BEGIN')) return 'a PEM file';
  const bare = printable(value.replace(/\/\/[^/?#]*@/, '//…@').replace(/[?#].*$/s, '?…'));
  return bare.length > SHOWN ? `${bare.slice(0, SHOWN)}…` : bare;
}
