import { isIP } from 'node:net';
import { excerpt } from '../text.ts';
import { isLoopback } from '../url.ts';
import type { Environment, Reader, Rule } from './variable-reader.ts';
import type { VariableName } from './variables.ts';

export const ACCOUNT_RULE: Rule = {
  pattern: /^[a-z0-9]{3,24}$/,
  demand: 'must be 3 to 24 lower-case letters and digits',
};
export const KEY_RULE: Rule = {
  pattern: /^[A-Za-z0-9+/]{86}==$/,
  demand: 'must be the base64 text of 64 bytes, as the portal shows it (88 characters)',
};
export const CONTAINER_RULE: Rule = {
  pattern: /^(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/,
  demand: 'must be 3 to 63 lower-case letters, digits and single hyphens inside',
};
/** Of an application or a tenant; a tenant may also be named by its domain. */
export const DIRECTORY_ID_RULE: Rule = {
  pattern: /^[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9.-]*$/,
  demand: 'must be an id such as the example',
};

/** Azure's clouds, each with its token endpoint and the suffix of its storage services. */
export const CLOUDS = {
  public: { authority: 'https://login.microsoftonline.com', suffix: 'core.windows.net' },
  china: { authority: 'https://login.chinacloudapi.cn', suffix: 'core.chinacloudapi.cn' },
  usgov: { authority: 'https://login.microsoftonline.us', suffix: 'core.usgovcloudapi.net' },
} as const;

/** The same clouds as Azure's own tools call them. */
export const CLOUD_ALIASES = {
  public: 'public',
  azurecloud: 'public',
  azurepubliccloud: 'public',
  china: 'china',
  azurechinacloud: 'china',
  usgov: 'usgov',
  azureusgovernment: 'usgov',
  azureusgovernmentcloud: 'usgov',
} as const;

/** Hosts of the service itself, whose names carry the account, so that no path follows. */
const SERVICE_HOST = /\.blob\.(core|storage)\./;

/**
 * The URL of a blob service, without a slash at the end; empty where it is none.
 * @param name the variable that gets the fault when the value is no such URL, or one that everybody can listen to
 */
export function blobUrl(
  reader: Reader,
  name: VariableName,
  value: string,
  { account, container }: { readonly account: string | undefined; readonly container: string | undefined },
): string {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (
    url === undefined ||
    !/^https?:$/.test(url.protocol) ||
    url.search !== '' ||
    url.hash !== '' ||
    url.username !== ''
  ) {
    reader.fault(name, 'must be the full URL of the blob service');
    return '';
  }
  const host = url.hostname.replace(/^\[|\]$/g, '');
  if (url.protocol === 'http:' && !isLoopback(host)) {
    reader.fault(name, 'must be https: over http everybody can read the snapshots');
  }
  const [first, second] = url.pathname.split('/').filter((part) => part !== '');
  const isContainer = first !== undefined && first === container && first !== account;
  if (second !== undefined || isContainer || (first !== undefined && SERVICE_HOST.test(host))) {
    const how = 'the container is named by SNAPSHOT_AZURE_CONTAINER_NAME alone';
    reader.fault(name, `must be the URL of the blob service, not of a container: ${how}`);
  }
  // A host that is a bare address cannot carry the account, so it stands in the path, as with Azurite.
  if (url.pathname === '/' && (isIP(host) !== 0 || host === 'localhost') && account !== undefined) {
    url.pathname = `/${account}`;
  }
  return url.href.replace(/\/$/, '');
}

/** What a SAS token is going to be used for. */
interface SasUse {
  readonly endpoint: string;
  readonly writes: boolean;
  readonly now: Date;
}

/**
 * What speaks against a SAS token by its own words, each completing "SNAPSHOT_AZURE_SAS_TOKEN …". The rest only Azure knows:
 * whether the signature is right, and what a stored access policy says (specification: rights; https-only tokens).
 */
export function sasFaults(token: string, { endpoint, writes, now }: SasUse): string[] {
  if (token === '') return [];
  const fields = new URLSearchParams(token);
  const faults: string[] = [];
  if (!fields.has('sig') || !fields.has('sv') || token.includes('://')) {
    return ['must be a SAS token as the portal shows it, without a URL before it'];
  }
  const expiry = dateOf(fields.get('se'));
  if (expiry !== undefined && expiry <= now) faults.push(`expired on ${expiry.toISOString()}`);
  const start = dateOf(fields.get('st'));
  if (start !== undefined && start > now) faults.push(`is not valid before ${start.toISOString()}`);
  const allows = (field: string, letters: RegExp): boolean => {
    const value = fields.get(field);
    return value === null || letters.test(value);
  };
  // A token for an account names services and kinds of resource; sr=d is a directory, and so a prefix.
  if (!allows('sr', /^[cd]$/) || !allows('ss', /b/) || !allows('srt', /o/)) {
    faults.push('must be for a container, or for the blob service of the account with its objects');
  }
  if (writes && !allows('sp', /[cw]/)) faults.push('gives no right to write (w) or create (c)');
  if (fields.get('spr') === 'https' && endpoint.startsWith('http:')) {
    faults.push('allows https only, but the endpoint is http');
  }
  return faults;
}

function dateOf(value: string | null): Date | undefined {
  const date = new Date(value ?? '');
  return Number.isNaN(date.getTime()) ? undefined : date;
}

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
