import type * as Sdk from '@azure/identity';
import type { Identity } from '../azure/identity.ts';
import { checkFile } from './identityfile.ts';
import { TokenLine } from './tokenline.ts';

/** For a managed identity the SDK keeps the first line that it was given as long as the program runs. */
const MACHINE_LINE = new TokenLine();

/**
 * The SDK's credential of an identity, whose failures say what happened. `@azure/identity` takes long to load, so it is
 * loaded only where a token is needed.
 * @throws UsageError for an unusable file
 */
export async function tokenCredential(identity: Identity): Promise<Sdk.TokenCredential> {
  await checkFile(identity);
  const sdk = await import('@azure/identity');
  return {
    // The SDK remembers for a minute that it was told 429 or 5xx and refuses to ask again, so each token is got anew; the
    // blob client keeps it for as long as it is good.
    async getToken(scopes, options = {}) {
      const line = (identity.kind === 'managed-identity' ? MACHINE_LINE : new TokenLine()).serve(options.abortSignal);
      try {
        return await sdkCredential(sdk, identity, line).getToken(scopes, options);
      } catch (error) {
        throw line.failure(error);
      }
    },
  };
}

function sdkCredential(sdk: typeof Sdk, identity: Identity, httpClient: TokenLine): Sdk.TokenCredential {
  // Requests does the retries. The operator names the authority, so nobody else is asked whether it exists: a cloud that is
  // cut off from the public one could not ask, either.
  const options = {
    httpClient,
    retryOptions: { maxRetries: 0 },
    redirectOptions: { maxRetries: 0 },
    disableInstanceDiscovery: true,
  };
  switch (identity.kind) {
    case 'principal': {
      const { tenant, appId, proof, authorityHost } = identity;
      return 'password' in proof
        ? new sdk.ClientSecretCredential(tenant, appId, proof.password.reveal(), { ...options, authorityHost })
        : new sdk.ClientCertificateCredential(tenant, appId, proof.certificateFile, { ...options, authorityHost });
    }
    case 'workload-identity': {
      const { tenant, clientId, tokenFile, authorityHost } = identity;
      const ids = { tenantId: tenant, clientId, tokenFilePath: tokenFile };
      return new sdk.WorkloadIdentityCredential({ ...options, ...ids, authorityHost });
    }
    case 'managed-identity': {
      const { clientId } = identity;
      return new sdk.ManagedIdentityCredential({ ...options, ...(clientId === undefined ? {} : { clientId }) });
    }
  }
}
