import type { TokenCredential } from '@azure/identity';
import {
  createDefaultHttpClient,
  isRestError,
  type HttpClient,
  type PipelineRequest,
  type PipelineResponse,
  RestError,
} from '@azure/core-rest-pipeline';
import type { Identity } from '../azure/identity.ts';
import { UsageError } from '../errors.ts';
import { assertValid, certificateIn, privateKeyIn, readNamed } from '../keyfile.ts';

type Sdk = typeof import('@azure/identity');
type AbortSignalLike = NonNullable<Parameters<TokenCredential['getToken']>[1]>['abortSignal'];

/**
 * The SDK's credential of an identity, whose failures say what happened. `@azure/identity` takes long to load, so it is
 * loaded only where a token is needed.
 * @throws UsageError for an unusable file
 */
export async function tokenCredential(identity: Identity): Promise<TokenCredential> {
  await checkFile(identity);
  const sdk = await import('@azure/identity');
  return {
    // The SDK remembers for a minute that it was told 429 or 5xx and refuses to ask again, so each token is got anew; the
    // blob client keeps it for as long as it is good.
    async getToken(scopes, options = {}) {
      const line = new TokenLine(options.abortSignal);
      try {
        return await sdkCredential(sdk, identity, line).getToken(scopes, options);
      } catch (error) {
        throw line.failure(error);
      }
    },
  };
}

function sdkCredential(sdk: Sdk, identity: Identity, httpClient: HttpClient): TokenCredential {
  // Requests does the retries. The operator names the authority, so nobody else is asked whether it exists: a cloud that is
  // cut off from the public one could not ask, either.
  const options = { httpClient, retryOptions: { maxRetries: 0 }, disableInstanceDiscovery: true };
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

/** What the SDK would say of these files is late, and hard to understand. */
async function checkFile(identity: Identity): Promise<void> {
  if (identity.kind === 'workload-identity') {
    const hint =
      'Is the pod labelled azure.workload.identity/use: "true", and is the webhook there? Check AZURE_FEDERATED_TOKEN_FILE.';
    const token = await readNamed(identity.tokenFile, 'service-account token', hint);
    if (token.toString().trim() === '')
      throw new UsageError(`The service-account token ${identity.tokenFile} is empty.`, hint);
  }
  if (identity.kind === 'principal' && 'certificateFile' in identity.proof) {
    const variable = 'SNAPSHOT_AZURE_PRINCIPAL_CERTIFICATE_FILE';
    const path = identity.proof.certificateFile;
    const what = `service principal's certificate ${path}`;
    const pem = await readNamed(path, "service principal's certificate", `Mount the file, or check ${variable}.`);
    const certificate = certificateIn(pem, path, variable);
    const key = privateKeyIn(pem, path, variable);
    if (!certificate.checkPrivateKey(key) || key.asymmetricKeyType !== 'rsa') {
      throw new UsageError(
        `The ${what} has no RSA key of its own in the same file.`,
        'Put the certificate and its key, as PEM, one after the other into the file.',
      );
    }
    assertValid(
      certificate,
      what,
      new Date(),
      'Renew it, give the application the new one, and check the clock of this host.',
    );
  }
}

/**
 * Where the SDK sends its requests for one token. Of a failure the SDK keeps little: a wrong tenant, a name that does not
 * resolve, a refused connection and an untrusted certificate are one text to it. So the line remembers what really came of
 * the last request. It also ends with the try that it serves, which the SDK's requests do not.
 */
class TokenLine implements HttpClient {
  readonly #client = createDefaultHttpClient();
  readonly #signal: AbortSignalLike;
  #request: PipelineRequest | undefined;
  #failure: RestError | undefined;

  constructor(signal: AbortSignalLike) {
    this.#signal = signal;
  }

  async sendRequest(request: PipelineRequest): Promise<PipelineResponse> {
    if (this.#signal !== undefined) request.abortSignal = this.#signal;
    // The endpoint of a managed identity is on the machine itself: no proxy can reach it, and none may see the token.
    if (request.url.startsWith('http:')) delete request.agent;
    this.#request = request;
    try {
      const response = await this.#client.sendRequest(request);
      this.#failure = response.status < 400 ? undefined : refusal(request, response);
      return response;
    } catch (error) {
      this.#failure = asRestError(error, request);
      throw error;
    }
  }

  /** What the SDK's error really means, with the request to the token endpoint, if there was one. */
  failure(error: unknown): unknown {
    return this.#failure ?? (this.#request === undefined ? error : asRestError(error, this.#request));
  }
}

function asRestError(error: unknown, request: PipelineRequest): RestError {
  if (isRestError(error)) return error;
  return error instanceof Error
    ? new RestError(error.message, { code: error.name, request })
    : new RestError(String(error));
}

/** The answer as an error, whose code is Entra's number (`AADSTS7000215`) or OAuth's word (`invalid_request`). */
function refusal(request: PipelineRequest, response: PipelineResponse): RestError {
  const { error, error_description: text } = bodyOf(response);
  const description = typeof text === 'string' ? text : `status ${response.status}`;
  const code = /AADSTS\d+/.exec(description)?.[0] ?? (typeof error === 'string' ? error : String(response.status));
  return new RestError(description, { code, statusCode: response.status, request, response });
}

function bodyOf({ bodyAsText }: PipelineResponse): Readonly<Record<string, unknown>> {
  try {
    const body: unknown = JSON.parse(bodyAsText ?? '');
    return typeof body === 'object' && body !== null ? { ...body } : {};
  } catch {
    return {};
  }
}
