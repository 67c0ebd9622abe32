import { excerpt } from '../text.ts';
import type { Environment, Reader } from '../reader.ts';

/** In the order in which the SDK looks for them. */
const NAMES = ['HTTPS_PROXY', 'ALL_PROXY', 'HTTP_PROXY'].flatMap((name) => [name, name.toLowerCase()]);

/** The SDK takes the value as it is, quotation marks included, and of one that is no URL it says nothing that helps. */
export function judgeProxy(reader: Reader, env: Environment): void {
  const [value] = valuesIn(env);
  if (value === undefined || (/^https?:\/\//.test(value) && URL.canParse(value))) return;
  reader.fault('HTTPS_PROXY', '(or what stands in for it) must be a URL that begins with http:// or https://');
}

/** A sentence for what NO_PROXY names and the SDK does not understand, where there is a proxy. */
export function proxyWarnings(env: Environment): string[] {
  const { HTTPS_PROXY: proxy, NO_PROXY: direct = '' } = proxyOf(env);
  const ranges = direct
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => /\/\d+$|^\*|:\d+$/.test(entry));
  if (proxy === undefined || ranges.length === 0) return [];
  const what = 'NO_PROXY takes whole host names and suffixes such as .example.com; ignored';
  return [`${what}: ${ranges.map((entry) => excerpt(entry, 60)).join(', ')}.`];
}

export function proxyPasswords(env: Environment): string[] {
  return valuesIn(env)
    .filter((value) => URL.canParse(value))
    .map((value) => new URL(value).password);
}

/** The proxy that the SDK takes, and what it reaches directly, for what else leaves the private network. */
export function proxyOf(env: Environment): { HTTPS_PROXY?: string; NO_PROXY?: string } {
  const [proxy] = valuesIn(env);
  const direct = env['NO_PROXY'] ?? env['no_proxy'];
  return { ...(proxy !== undefined && { HTTPS_PROXY: proxy }), ...(direct !== undefined && { NO_PROXY: direct }) };
}

function valuesIn(env: Environment): string[] {
  return NAMES.map((name) => env[name] ?? '').filter((value) => value !== '');
}
