import { printable } from './text.ts';

const LOOPBACK = /^((.+\.)?localhost|127(\.\d+){3}|\[::1\]|\[::ffff:7f[0-9a-f]{2}:[0-9a-f]+\])$/;

/** What etcd accepts as a peer URL: scheme, host and port, or the path of a socket; nothing else. */
const PEER_URL = /^(https?:\/\/(\[[\da-fA-F:.]+\]|[\w.-]+):\d{1,5}|unixs?:\/\/[\w./:-]+)$/;

/** Whether a member can have it, and `new URL` understands it. */
export function isPeerUrl(text: string): boolean {
  return text.length <= 512 && PEER_URL.test(text) && URL.canParse(text);
}

/** Whether only programs on the same host can reach it. */
export function isLoopback(url: string): boolean {
  return LOOPBACK.test(new URL(url).hostname);
}

/** Whether two lists of URLs mean the same; their order does not count. */
export function sameUrls(a: readonly string[], b: readonly string[]): boolean {
  return normal(a) === normal(b);
}

/** How a member is called in a sentence. */
export function title({ id, name }: { readonly id: string; readonly name: string }): string {
  return printable(name === '' ? id : `${name} (${id})`);
}

function normal(urls: readonly string[]): string {
  return urls
    .map((url) => (URL.canParse(url) ? new URL(url).href : url))
    .toSorted()
    .join();
}
