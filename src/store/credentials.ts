import { BlobServiceClient, type ContainerClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import type { TokenCredential } from '@azure/identity';
import type { StorageConfig, StorageCredential } from '../config.ts';
import { UsageError } from '../errors.ts';

/** The SDK's own retries are off: `Requests` does them. Its deadlines do not end a request anyway. */
const CLIENT_OPTIONS = { retryOptions: { maxTries: 1 } };

/** How each credential is called in logs and messages. */
export const CREDENTIAL_NAMES: Readonly<Record<StorageCredential['kind'], string>> = {
  key: 'account key',
  'connection-string': 'connection string',
  principal: 'service principal',
};

/** The client for the configured container; no request is made yet. @throws UsageError for an unusable connection string */
export async function openContainer(config: StorageConfig): Promise<ContainerClient> {
  const { credential, endpoint, container } = config;
  return (await openService(credential, endpoint ?? '')).getContainerClient(container);
}

async function openService(credential: StorageCredential, endpoint: string): Promise<BlobServiceClient> {
  switch (credential.kind) {
    case 'key': {
      const sharedKey = new StorageSharedKeyCredential(credential.account, credential.key.reveal());
      return new BlobServiceClient(endpoint, sharedKey, CLIENT_OPTIONS);
    }
    case 'connection-string':
      try {
        return BlobServiceClient.fromConnectionString(credential.connectionString.reveal(), CLIENT_OPTIONS);
      } catch {
        // What the SDK says may quote the string, so it is not passed on.
        throw new UsageError(
          'SNAPSHOT_AZURE_CONNECTION_STRING cannot be understood.',
          'Copy it again from the portal (Access keys), with all of its parts.',
        );
      }
    case 'principal':
      return new BlobServiceClient(endpoint, await servicePrincipal(credential), CLIENT_OPTIONS);
  }
}

/** `@azure/identity` takes long to load, so it is loaded only where a token is needed. */
async function servicePrincipal(credential: StorageCredential & { kind: 'principal' }): Promise<TokenCredential> {
  const { AzureAuthorityHosts, ClientSecretCredential } = await import('@azure/identity');
  const { appId, password, tenant, authorityHost } = credential;
  const known: readonly string[] = Object.values(AzureAuthorityHosts);
  return new ClientSecretCredential(tenant, appId, password.reveal(), {
    authorityHost,
    // An authority of one's own is not in Microsoft's directory of clouds, and an air-gapped host cannot reach that.
    disableInstanceDiscovery: !known.includes(authorityHost),
    retryOptions: { maxRetries: 1 },
  });
}
