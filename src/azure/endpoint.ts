import { isIP } from 'node:net';
import { isLoopback } from '../origin.ts';
import type { Reader } from '../reader.ts';
import type { VariableName } from '../variables.ts';

/** Azure's clouds, each with its token endpoint and the suffix of its storage services. */
export const CLOUDS = {
  public: { authority: 'https://login.microsoftonline.com', suffix: 'core.windows.net' },
  china: { authority: 'https://login.chinacloudapi.cn', suffix: 'core.chinacloudapi.cn' },
  usgov: { authority: 'https://login.microsoftonline.us', suffix: 'core.usgovcloudapi.net' },
} as const;

/**
 * The URL of a blob service, without a slash at the end; empty where it is none.
 * @param name the variable that gets the fault when the value is no such URL, or one that everybody can listen to
 */
export function blobUrl(reader: Reader, name: VariableName, value: string, account: string | undefined): string {
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
  // A host that is a bare address cannot carry the account, so it stands in the path, as with Azurite.
  if (url.pathname === '/' && (isIP(host) !== 0 || host === 'localhost') && account !== undefined) {
    url.pathname = `/${account}`;
  }
  return url.href.replace(/\/$/, '');
}
