import { isRestError } from '@azure/storage-blob';
import { RunTimeout, StorageError, WorkerError } from '../errors.ts';

/** Where the requests go, for the sentences. */
export interface Place {
  readonly host: string;
  readonly account: string;
  readonly container: string;
  readonly credential: string;
}

/** One try of a request took longer than it may. */
export class TryTimeout extends Error {
  constructor(ms: number) {
    super(`no answer within ${ms / 1000} s`);
    this.name = 'TryTimeout';
  }
}

/**
 * Azure's error code, the network's, or the name of what was thrown. Answers to HEAD have no body, so the SDK finds no code
 * there and the header must be asked.
 */
export function codeOf(error: unknown): string {
  if (isRestError(error)) {
    const fromHeader = error.response?.headers.get('x-ms-error-code');
    return fromHeader ?? error.code ?? String(error.statusCode ?? error.name);
  }
  if (error instanceof StorageError) return error.code;
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return error instanceof Error ? error.name : 'unknown';
}

const NETWORK =
  /^(ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ERR_STREAM_PREMATURE_CLOSE|REQUEST_SEND_ERROR)/;
const UNTRUSTED = /SELF_SIGNED|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER|CERT_HAS_EXPIRED|ALTNAME/;

/** Whether trying again can help. The SDK itself gives up on 408, 429, 502 and 504, which proxies produce. */
export function isTransient(error: unknown): boolean {
  if (error instanceof TryTimeout) return true;
  const code = codeOf(error);
  if (UNTRUSTED.test(code)) return false;
  if (isRestError(error) && error.statusCode !== undefined) {
    return [408, 429, 500, 502, 503, 504].includes(error.statusCode) || code === 'ContainerBeingDeleted';
  }
  return NETWORK.test(code) || code === 'AbortError';
}

/** Milliseconds that the service asked us to wait, if it did. */
export function retryAfterMs(error: unknown): number | undefined {
  const header = isRestError(error) ? error.response?.headers.get('retry-after') : undefined;
  return header !== undefined && /^\d{1,4}$/.test(header) ? Number(header) * 1000 : undefined;
}

/** Turns what the SDK threw into our error; errors of our own pass through. `doing` completes "Azure failed while …". */
export function storageError(place: Place, doing: string, error: unknown): WorkerError {
  if (error instanceof WorkerError) return error;
  if (error instanceof RunTimeout) {
    return new StorageError(
      'RunTimeout',
      `${error.message} while ${doing}.`,
      'Is the uplink slow? Raise SNAPSHOT_TIMEOUT (and the Job deadline above it).',
      error,
    );
  }
  const code = codeOf(error);
  const requestId = isRestError(error) ? error.response?.headers.get('x-ms-request-id') : undefined;
  const [message, hint] = meaning(place, code, doing, error);
  return new StorageError(
    code,
    `${message} [${code}${requestId === undefined ? '' : `, request ${requestId}`}]`,
    hint,
    error,
  );
}

/** The name of a new snapshot is in use; the blob that has it is left as it is. */
export function nameTaken(name: string, cause?: unknown): StorageError {
  return new StorageError(
    'BlobAlreadyExists',
    `A blob named ${name} exists already; it was left as it is.`,
    'Another worker took a snapshot in the same second. Run the command again.',
    cause,
  );
}

function meaning(place: Place, code: string, doing: string, error: unknown): [message: string, hint: string] {
  const { account, container, credential, host } = place;
  const text = error instanceof Error ? error.message : String(error);
  // Azurite answers a wrong key with the code that Azure uses for its firewall; only the text tells them apart.
  const unauthenticated = code === 'AuthenticationFailed' || /failed to authenticate/i.test(text);
  if (unauthenticated) {
    return [
      `Azure refused the ${credential} for account ${account}: it is wrong, rotated or expired.`,
      'Check the variables of that credential, and that the clock of this host is right.',
    ];
  }
  switch (code) {
    case 'AuthorizationFailure':
      return [
        `Azure refused the ${credential} or this network address for account ${account}.`,
        'Check the credential; allow this address in the storage firewall, or use the private endpoint.',
      ];
    case 'AuthorizationPermissionMismatch':
      return [
        `The ${credential} may not do this on container ${container} (${doing}).`,
        'Give it the role Storage Blob Data Contributor on the container (a new assignment takes minutes to act).',
      ];
    case 'KeyBasedAuthenticationNotPermitted':
      return [
        `Account ${account} forbids access by key.`,
        'Use a service principal, with SNAPSHOT_AZURE_AUTH=principal.',
      ];
    case 'ContainerNotFound':
      return [`Container ${container} does not exist in account ${account}.`, 'Check SNAPSHOT_AZURE_CONTAINER_NAME.'];
    case 'ContainerBeingDeleted':
      return [`Container ${container} is being deleted.`, 'Wait a few minutes, or use another container.'];
    case 'ResourceNotFound':
      return [`Account ${account} does not exist at ${host}.`, 'Check SNAPSHOT_AZURE_ACCOUNT_NAME and the endpoint.'];
    case 'AccountIsDisabled':
      return [`Account ${account} is disabled.`, 'Enable the account or its subscription.'];
    case 'BlobNotFound':
      return ['The blob does not exist.', '`etcd-snapshot list` shows what there is.'];
    case 'ConditionNotMet':
      return [`The blob was changed by somebody else while ${doing}.`, 'Run the command again.'];
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return [`Host ${host} cannot be resolved.`, 'Check SNAPSHOT_AZURE_ACCOUNT_NAME, SNAPSHOT_AZURE_CLOUD and DNS.'];
  }
  const directory = /AADSTS(\d+)/.exec(text)?.[1];
  if (directory !== undefined) return directoryMeaning(directory);
  if (UNTRUSTED.test(code)) {
    return [
      `The TLS certificate of ${host} is not trusted.`,
      'Set NODE_EXTRA_CA_CERTS to the CA of your proxy or endpoint.',
    ];
  }
  if (
    error instanceof Error &&
    /^(CredentialUnavailable|AuthenticationRequired|AuthenticationError|ClientAuthError)/.test(error.name)
  ) {
    return [
      'Azure gave no token: wrong tenant, or its authority cannot be reached.',
      'Check SNAPSHOT_AZURE_PRINCIPAL_TENANT, SNAPSHOT_AZURE_AUTHORITY_HOST, DNS and proxy settings.',
    ];
  }
  if (error instanceof TryTimeout)
    return [`Azure at ${host} gave ${text} while ${doing}.`, 'Check the network and proxy.'];
  if (NETWORK.test(code))
    return [`Azure at ${host} cannot be reached while ${doing}.`, 'Check the network, proxy and endpoint.'];
  return [`Azure failed while ${doing}.`, 'Look the code up in the documentation of Azure Blob Storage.'];
}

function directoryMeaning(directory: string): [message: string, hint: string] {
  switch (directory) {
    case '7000215':
      return [
        'Azure refused the client secret.',
        'SNAPSHOT_AZURE_PRINCIPAL_PASSWORD must be the secret value, not its id.',
      ];
    case '7000222':
      return ['The client secret has expired.', 'Make a new one and set SNAPSHOT_AZURE_PRINCIPAL_PASSWORD.'];
    case '700016':
      return ['The application is not known in this tenant.', 'Check SNAPSHOT_AZURE_PRINCIPAL_APPID and _TENANT.'];
    case '90002':
      return ['The tenant does not exist.', 'Check SNAPSHOT_AZURE_PRINCIPAL_TENANT.'];
    default:
      return [
        `Azure refused the service principal (AADSTS${directory}).`,
        'Look the number up in the documentation of Entra ID.',
      ];
  }
}
