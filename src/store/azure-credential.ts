import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
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
import type { Access, Credential, Identity } from '../config/azure.ts';
import type { StorageConfig } from '../config/config.ts';
import { type Place, variableOf } from '../config/place.ts';
import { UsageError } from '../errors.ts';
import { readNamed } from '../files.ts';
import { assertValid, certificateIn, privateKeyIn } from '../pem.ts';

/** What the SDK authenticates with; undefined for a SAS token, which is part of the URL. */
export type SdkCredential = StorageSharedKeyCredential | Sdk.TokenCredential | undefined;

/** The client for the configured container; no request is made yet. @throws UsageError for an unusable file */
export async function openContainer({ container, place, ...access }: StorageConfig): Promise<ContainerClient> {
  return openService(access, await sdkCredential(access.credential, place)).getContainerClient(container);
}

/**
 * The client for an account. The SDK's retries are off because `Requests` does them, and redirects are not followed: the
 * credential is for the configured endpoint alone.
 */
export function openService(
  { credential, endpoint }: Pick<Access, 'credential' | 'endpoint'>,
  ofSdk: SdkCredential,
): BlobServiceClient {
  const agent = agentFor(new URL(endpoint));
  const options = { retryOptions: { maxTries: 1 }, redirectOptions: { maxRetries: 0 }, ...(agent && { agent }) };
  const url = credential.kind === 'sas' ? `${endpoint}?${credential.token.reveal()}` : endpoint;
  return new BlobServiceClient(url, ofSdk, options);
}

/** @throws UsageError for an unusable file */
export async function sdkCredential(credential: Credential, place: Place): Promise<SdkCredential> {
  if (credential.kind === 'sas') return undefined;
  if (credential.kind === 'key') return new StorageSharedKeyCredential(credential.account, credential.key.reveal());
  return tokenCredential(credential, place);
}

/** The SDK takes the brackets of an IPv6 address in a URL for a part of the host name. Such a host is reached without a proxy. */
function agentFor({ protocol, hostname }: URL): HttpAgent | undefined {
  if (!hostname.startsWith('[')) return undefined;
  const agent = protocol === 'https:' ? new HttpsAgent({ keepAlive: true }) : new HttpAgent({ keepAlive: true });
  const connect = agent.createConnection.bind(agent);
  agent.createConnection = (options, done) => connect({ ...options, host: hostname.slice(1, -1) }, done);
  return agent;
}

/**
 * The SDK's credential of an identity, with errors that say what happened. `@azure/identity` takes long to load, so it is
 * loaded only where a token is needed.
 */
async function tokenCredential(identity: Identity, place: Place): Promise<Sdk.TokenCredential> {
  await checkFiles(identity, place);
  const sdk = await import('@azure/identity');
  return {
    // For a minute after a 429 or 5xx the SDK refuses to ask again, so each token gets a credential of its own; the blob client
    // keeps the token as long as it is valid.
    async getToken(scopes, options = {}) {
      const client = identity.kind === 'managed-identity' ? MANAGED_IDENTITY_CLIENT : new RecordingTokenClient();
      client.startToken(options.abortSignal);
      try {
        return await credentialOf(sdk, identity, client).getToken(scopes, options);
      } catch (error) {
        throw client.failure(error);
      }
    },
  };
}

/** Checks the file that proves an identity first: the SDK would report it late, and in words that are hard to understand. */
async function checkFiles(identity: Identity, place: Place): Promise<void> {
  if (identity.kind === 'workload-identity') {
    const hint =
      'Check AZURE_FEDERATED_TOKEN_FILE, the label azure.workload.identity/use: "true" of the pod, and the webhook.';
    const token = await readNamed(identity.tokenFile, 'service-account token', hint);
    if (token.toString().trim() !== '') return;
    throw new UsageError(`The service-account token ${identity.tokenFile} is empty.`, hint);
  }
  if (identity.kind !== 'principal' || !('certificateFile' in identity.proof)) return;
  const path = identity.proof.certificateFile;
  const variable = variableOf(place, 'SNAPSHOT_AZURE_PRINCIPAL_CERTIFICATE_FILE');
  const what = "service principal's certificate";
  const pem = await readNamed(path, what, `Mount the file, or check ${variable}.`);
  const certificate = certificateIn(pem, path, variable);
  const key = privateKeyIn(pem, path, variable);
  if (!certificate.checkPrivateKey(key) || key.asymmetricKeyType !== 'rsa') {
    throw new UsageError(
      `The ${what} ${path} has no matching RSA key in the same file.`,
      'Put the certificate and its key into the file, one after the other, as PEM.',
    );
  }
  const hint = 'Renew it, upload the new one to the application, and check the clock of this host.';
  assertValid(certificate, `${what} ${path}`, new Date(), hint);
}

function credentialOf(sdk: typeof Sdk, identity: Identity, httpClient: HttpClient): Sdk.TokenCredential {
  // The operator names the authority, so the public cloud is not asked whether it exists; an isolated cloud could not ask it.
  const options = {
    httpClient,
    retryOptions: { maxRetries: 0 },
    redirectOptions: { maxRetries: 0 },
    disableInstanceDiscovery: true,
  };
  if (identity.kind === 'managed-identity') {
    const { clientId } = identity;
    return new sdk.ManagedIdentityCredential({ ...options, ...(clientId === undefined ? {} : { clientId }) });
  }
  const { tenant, clientId, authorityHost } = identity;
  if (identity.kind === 'workload-identity') {
    const { tokenFile: tokenFilePath } = identity;
    return new sdk.WorkloadIdentityCredential({ ...options, tenantId: tenant, clientId, tokenFilePath, authorityHost });
  }
  const { proof } = identity;
  return 'password' in proof
    ? new sdk.ClientSecretCredential(tenant, clientId, proof.password.reveal(), { ...options, authorityHost })
    : new sdk.ClientCertificateCredential(tenant, clientId, proof.certificateFile, { ...options, authorityHost });
}

/**
 * The SDK reports a wrong tenant, an unknown host, a refused connection and an untrusted certificate with one text. This HTTP
 * client remembers what really happened to the last request. It also ends a request with the try that it belongs to.
 */
class RecordingTokenClient implements HttpClient {
  readonly #client = createDefaultHttpClient();
  #signal: PipelineRequest['abortSignal'];
  #request: PipelineRequest | undefined;
  #failure: RestError | undefined;

  /** @param signal of the try that needs the token */
  startToken(signal: PipelineRequest['abortSignal']): void {
    this.#signal = signal;
    this.#request = undefined;
    this.#failure = undefined;
  }

  async sendRequest(request: PipelineRequest): Promise<PipelineResponse> {
    if (this.#signal !== undefined) request.abortSignal = this.#signal;
    // The endpoint of a managed identity is on the machine itself: a proxy cannot reach it, and must not see the token.
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

  /** The error behind that of the SDK, with the request to the token endpoint if there was one. */
  failure(error: unknown): unknown {
    return this.#failure ?? (this.#request === undefined ? error : asRestError(error, this.#request));
  }
}

/** For a managed identity the SDK keeps the first HTTP client that it was given until the process ends. */
const MANAGED_IDENTITY_CLIENT = new RecordingTokenClient();

function asRestError(error: unknown, request: PipelineRequest): RestError {
  if (isRestError(error)) return error;
  const [message, code] = error instanceof Error ? [error.message, error.name] : [String(error), 'unknown'];
  return new RestError(message, { code, request });
}

/** The answer as an error, whose code is Entra's number (`AADSTS7000215`) or OAuth's word (`invalid_request`). */
function refusal(request: PipelineRequest, response: PipelineResponse): RestError {
  let body: { readonly error?: unknown; readonly error_description?: unknown } | null = null;
  try {
    body = JSON.parse(response.bodyAsText ?? '');
  } catch {
    // Not from Entra ID.
  }
  const text = body?.error_description;
  const description = typeof text === 'string' ? text : `status ${response.status}`;
  const word = typeof body?.error === 'string' ? body.error : String(response.status);
  const code = /AADSTS\d+/.exec(description)?.[0] ?? word;
  return new RestError(description, { code, statusCode: response.status, request, response });
}
