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
