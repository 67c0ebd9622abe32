import { Agent as PlainAgent } from 'node:http';
import { Agent as TlsAgent } from 'node:https';
import {
  createDefaultHttpClient,
  type HttpClient,
  isRestError,
  type PipelineRequest,
  type PipelineResponse,
  RestError,
} from '@azure/core-rest-pipeline';
import type * as Sdk from '@azure/identity';
import { BlobServiceClient, type ContainerClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import type { StorageConfig } from '../config/config.ts';
import type { Identity } from '../config/credential.ts';
import { UsageError } from '../errors.ts';
import { readNamed } from '../files.ts';
import { assertValid, certificateIn, privateKeyIn } from '../pem.ts';

/**
 * Checks the file with which an identity proves itself: what the SDK would say is late, and hard to understand.
 * @throws UsageError
 */
async function checkFile(identity: Identity): Promise<void> {
  if (identity.kind === 'workload-identity') await checkToken(identity.tokenFile);
  if (identity.kind === 'principal' && 'certificateFile' in identity.proof) {
    await checkCertificate(identity.proof.certificateFile);
  }
}

async function checkToken(path: string): Promise<void> {
  const hint =
    'Is the pod labelled azure.workload.identity/use: "true", and is the webhook there? Check AZURE_FEDERATED_TOKEN_FILE.';
  const token = await readNamed(path, 'service-account token', hint);
  if (token.toString().trim() === '') throw new UsageError(`The service-account token ${path} is empty.`, hint);
}

async function checkCertificate(path: string): Promise<void> {
  const variable = 'SNAPSHOT_AZURE_PRINCIPAL_CERTIFICATE_FILE';
  const what = "service principal's certificate";
  const pem = await readNamed(path, what, `Mount the file, or check ${variable}.`);
  const certificate = certificateIn(pem, path, variable);
  const key = privateKeyIn(pem, path, variable);
  if (!certificate.checkPrivateKey(key) || key.asymmetricKeyType !== 'rsa') {
    throw new UsageError(
      `The ${what} ${path} has no RSA key of its own in the same file.`,
      'Put the certificate and its key, as PEM, one after the other into the file.',
    );
  }
  const hint = 'Renew it, give the application the new one, and check the clock of this host.';
  assertValid(certificate, `${what} ${path}`, new Date(), hint);
}

/**
 * Where the SDK sends its requests for one token after the other. Of a failure the SDK keeps little: a wrong tenant, a name that does not
 * resolve, a refused connection and an untrusted certificate are one text to it. So the line remembers what really came of
 * the last request. It also ends with the try that it serves, which the SDK's requests do not.
 */
class RecordingTokenClient implements HttpClient {
  readonly #client = createDefaultHttpClient();
  #signal: PipelineRequest['abortSignal'];
  #request: PipelineRequest | undefined;
  #failure: RestError | undefined;

  /** Begins with the next token. @param signal of the try that needs it */
  serve(signal: PipelineRequest['abortSignal']): this {
    this.#signal = signal;
    this.#request = undefined;
    this.#failure = undefined;
    return this;
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
  const [message, code] = error instanceof Error ? [error.message, error.name] : [String(error), 'unknown'];
  return new RestError(message, { code, request });
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

/** For a managed identity the SDK keeps the first line that it was given as long as the program runs. */
const MACHINE_LINE = new RecordingTokenClient();

/**
 * The SDK's credential of an identity, whose failures say what happened. `@azure/identity` takes long to load, so it is
 * loaded only where a token is needed.
 * @throws UsageError for an unusable file
 */
async function tokenCredential(identity: Identity): Promise<Sdk.TokenCredential> {
  await checkFile(identity);
  const sdk = await import('@azure/identity');
  return {
    // The SDK remembers for a minute that it was told 429 or 5xx and refuses to ask again, so each token is got anew; the
    // blob client keeps it for as long as it is good.
    async getToken(scopes, options = {}) {
      const line = (identity.kind === 'managed-identity' ? MACHINE_LINE : new RecordingTokenClient()).serve(
        options.abortSignal,
      );
      try {
        return await sdkCredential(sdk, identity, line).getToken(scopes, options);
      } catch (error) {
        throw line.failure(error);
      }
    },
  };
}

function sdkCredential(sdk: typeof Sdk, identity: Identity, httpClient: RecordingTokenClient): Sdk.TokenCredential {
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

/** The client for the configured container; no request is made yet. @throws UsageError for an unusable file */
export async function openContainer({ credential, endpoint, container }: StorageConfig): Promise<ContainerClient> {
  return (await openService(credential, endpoint)).getContainerClient(container);
}

async function openService(credential: StorageConfig['credential'], endpoint: string): Promise<BlobServiceClient> {
  const options = optionsFor(endpoint);
  switch (credential.kind) {
    case 'key': {
      const sharedKey = new StorageSharedKeyCredential(credential.account, credential.key.reveal());
      return new BlobServiceClient(endpoint, sharedKey, options);
    }
    case 'sas':
      return new BlobServiceClient(`${endpoint}?${credential.token.reveal()}`, undefined, options);
    default:
      return new BlobServiceClient(endpoint, await tokenCredential(credential), options);
  }
}

/**
 * The SDK's own retries are off: `Requests` does them. Its deadlines do not end a request anyway. Nobody is followed elsewhere:
 * what proves our right is for the configured endpoint alone.
 */
function optionsFor(endpoint: string): object {
  const agent = agentFor(new URL(endpoint));
  return { retryOptions: { maxTries: 1 }, redirectOptions: { maxRetries: 0 }, ...(agent && { agent }) };
}

/** The SDK takes the brackets of an IPv6 address in a URL for a part of the host's name. Such a host is reached without a proxy. */
function agentFor({ protocol, hostname }: URL): PlainAgent | undefined {
  if (!hostname.startsWith('[')) return undefined;
  const agent = protocol === 'https:' ? new TlsAgent({ keepAlive: true }) : new PlainAgent({ keepAlive: true });
  const connect = agent.createConnection.bind(agent);
  agent.createConnection = (options, done) => connect({ ...options, host: hostname.slice(1, -1) }, done);
  return agent;
}
