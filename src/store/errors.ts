import { type BlobClient, isRestError } from '@azure/storage-blob';
import type { CredentialSource } from '../config/credential.ts';
import { messageOf, RunTimeout, StorageError, WorkerError } from '../errors.ts';
import { excerpt } from '../text.ts';
import type { Requests } from './requests.ts';

/** Where the requests go, for the sentences. */
export interface Place {
  readonly host: string;
  readonly account: string;
  readonly container: string;
  readonly source: CredentialSource;
  /** The source's name, such as `account key`. */
  readonly credential: string;
}

/** What is known of a request that failed for good. */
interface Failure {
  readonly place: Place;
  /** Completes "failed while …". */
  readonly doing: string;
  /** Azure's, Entra's, the network's. */
  readonly code: string;
  /** What the service, the SDK or the network said. */
  readonly text: string;
  /** The host that was asked: the store's, or that of the token endpoint. */
  readonly host: string;
  /** Whole minutes between the clock of this host and the service's; 0 where that did not tell its time. */
  readonly minutesOff: number;
  /** Milliseconds that the service asked us to wait, if it did. */
  readonly waitMs: number | undefined;
}

/** What failed and why, and what to do. */
type ErrorText = readonly [message: string, hint: string];

/** Whether the service said that there is no such blob. An answer to HEAD has no body; its code may be missing, too. */
export function isMissing(error: unknown): boolean {
  return ['BlobNotFound', '404'].includes(codeOf(error));
}

/**
 * Whether a request that demanded an etag failed because the blob is gone: the service may have said no more than that the
 * etag is another, and is asked again.
 * @throws StorageError
 */
export async function isGone(
  blob: BlobClient,
  error: unknown,
  requests: Requests,
  signal?: AbortSignal,
): Promise<boolean> {
  if (codeOf(error) !== 'ConditionNotMet') return isMissing(error);
  const exists = (abortSignal: AbortSignal): Promise<boolean> => blob.exists({ abortSignal });
  return !(await requests.send(`looking for ${blob.name}`, exists, signal && { signal }));
}

const BROKEN =
  /^(ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ERR_STREAM_PREMATURE_CLOSE|REQUEST_SEND_ERROR)/;
const UNTRUSTED = /SELF_SIGNED|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER|^CERT_|ALTNAME/;

/** Whether a code of Node's means a network that may work again in a moment. */
function isBroken(code: string): boolean {
  return BROKEN.test(code) && !UNTRUSTED.test(code);
}

/** Whether a code of Node's means that nobody answered, neither the host nor the name server. */
function isUnheard(code: string): boolean {
  return ['ETIMEDOUT', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'].includes(code);
}

/** What Node says of the network, by its code. */
function networkFault({ place, code, text, host, doing }: Failure): ErrorText | undefined {
  const isStore = host === place.host;
  const who = isStore ? `Azure at ${host}` : `The token endpoint at ${host}`;
  if (UNTRUSTED.test(code)) {
    return [
      // What follows is Node's advice.
      `The TLS certificate of ${host} is not trusted: ${text.split(';')[0]}.`,
      'Set NODE_EXTRA_CA_CERTS to the CA of your endpoint, or of the proxy that opens TLS.',
    ];
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    const where = isStore ? 'SNAPSHOT_AZURE_ACCOUNT_NAME' : 'SNAPSHOT_AZURE_AUTHORITY_HOST';
    return [
      // It may be a proxy's.
      `Host ${/(?:ENOTFOUND|EAI_AGAIN) (\S+)/.exec(text)?.[1] ?? host} cannot be resolved.`,
      `Check ${where}, SNAPSHOT_AZURE_CLOUD, DNS (the private zone) and proxy.`,
    ];
  }
  if (code === 'PARSE_ERROR') {
    return [
      `${who} gave an answer that cannot be understood while ${doing}.`,
      'Check the endpoint, and what a proxy makes of its answers.',
    ];
  }
  if (code === '407') return ['The proxy wants a user name and a password.', 'Put them into the URL of HTTPS_PROXY.'];
  if (code === 'EPROTO') return [`${who} does not speak TLS as it should.`, 'Check protocol and port of the endpoint.'];
  if (code === 'TryTimeout') return [`${who} gave ${text} while ${doing}.`, 'Check the network and proxy.'];
  if (BROKEN.test(code)) {
    return [`${who} cannot be reached while ${doing}: ${text}.`, 'Check the network, proxy and endpoint.'];
  }
  return undefined;
}

/** Who asks is known by these variables; a managed identity by the machine. */
const VARIABLES: Partial<Record<CredentialSource, { readonly id: string; readonly tenant: string }>> = {
  principal: { id: 'SNAPSHOT_AZURE_PRINCIPAL_APPID', tenant: 'SNAPSHOT_AZURE_PRINCIPAL_TENANT' },
  'workload-identity': { id: 'AZURE_CLIENT_ID', tenant: 'AZURE_TENANT_ID' },
};

/** Why an identity is given no token, by the number with which Entra ID begins its text. */
function tokenRefusal({ place, code, text, host, minutesOff }: Failure): ErrorText | undefined {
  if (host === place.host) return undefined;
  if (place.source === 'managed-identity') {
    return [
      `The identity endpoint at ${host} gave no token: ${firstSentence(text)}`,
      'Assign the managed identity to this machine, or check SNAPSHOT_AZURE_MANAGED_IDENTITY_CLIENT_ID.',
    ];
  }
  const { id, tenant } = VARIABLES[place.source] ?? { id: 'its id', tenant: 'its tenant' };
  const noFederation: ErrorText = [
    'Entra ID does not know the service account: no federated credential of the identity matches it.',
    `Compare issuer, subject and audience of the federated credential with the cluster's; check ${id}.`,
  ];
  switch (code) {
    case 'AADSTS7000215':
      return [
        'Entra ID refused the client secret.',
        'SNAPSHOT_AZURE_PRINCIPAL_PASSWORD must be the secret value, not its id.',
      ];
    case 'AADSTS7000222':
      return ['The client secret has expired.', 'Make a new one and set SNAPSHOT_AZURE_PRINCIPAL_PASSWORD.'];
    case 'AADSTS700016':
      return ['The application is not known in this tenant.', `Check ${id} and ${tenant}.`];
    case 'AADSTS7000112':
      return ['The application is disabled.', 'Enable it in Entra ID (Enterprise applications).'];
    case 'AADSTS90002':
    case 'AADSTS900023':
      return [`The tenant does not exist at ${host}.`, `Check ${tenant} and SNAPSHOT_AZURE_CLOUD.`];
    case 'AADSTS700027':
      return [
        'Entra ID does not know the certificate: it is none of the application.',
        'Upload the certificate of SNAPSHOT_AZURE_PRINCIPAL_CERTIFICATE_FILE to the application.',
      ];
    case 'AADSTS700024':
      return minutesOff > 0
        ? clockIsOff(minutesOff)
        : ['Entra ID refused a proof that is not valid at this time.', 'Check the clock of this host.'];
    case 'AADSTS70021':
    case 'AADSTS700211':
    case 'AADSTS700212':
    case 'AADSTS700213':
      return noFederation;
  }
  return [
    `Entra ID at ${host} gave the ${place.credential} no token: ${firstSentence(text)}`,
    'Look the number up in the documentation of Entra ID; it is none where a proxy answered instead.',
  ];
}

function firstSentence(text: string): string {
  return `${text.split(/(?<=\w)\.(?=\s|$)|[\r\n]/)[0]}.`;
}

/** Azure refuses a request that was signed so long ago, or so far in the future. */
const TOLERATED_MINUTES = 15;

/** What the blob service refuses, by its code (specification: errors and the sentence for the user). */
function refusal(failure: Failure): ErrorText | undefined {
  // Azurite answers a wrong key with the code that Azure uses for its firewall; only the text tells them apart.
  if (/failed to authenticate/i.test(failure.text)) return unauthenticated(failure);
  return Object.hasOwn(BY_CODE, failure.code) ? BY_CODE[failure.code]?.(failure) : undefined;
}

function clockIsOff(minutes: number): ErrorText {
  return [
    `The clock of this host differs from Azure's by ${minutes} minutes.`,
    'Repair the time synchronisation of this host (chrony, systemd-timesyncd).',
  ];
}

function unauthenticated({ place, minutesOff }: Failure): ErrorText {
  if (minutesOff >= TOLERATED_MINUTES) return clockIsOff(minutesOff);
  return [
    `Azure refused the ${place.credential} for account ${place.account}: it is wrong, rotated or expired.`,
    WHAT_TO_CHECK[place.source],
  ];
}

const OF_THE_TENANT = 'Check that it is of the tenant to which the subscription of the account belongs.';

const WHAT_TO_CHECK: Readonly<Record<CredentialSource, string>> = {
  'connection-string':
    'Copy SNAPSHOT_AZURE_CONNECTION_STRING again from the portal (Access keys, or Shared access signature).',
  key: 'Compare SNAPSHOT_AZURE_ACCOUNT_KEY with the keys in the portal (Access keys).',
  sas: 'Make a new token for SNAPSHOT_AZURE_SAS_TOKEN; it ends with the key that signed it.',
  principal: OF_THE_TENANT,
  'workload-identity': OF_THE_TENANT,
  'managed-identity': OF_THE_TENANT,
};

const ANOTHER_SAS = 'Make a SAS token for the container with the rights rcwl, and d for retention.';

const BY_CODE: Readonly<Record<string, (failure: Failure) => ErrorText>> = {
  AuthenticationFailed: unauthenticated,
  InvalidAuthenticationInfo: unauthenticated,
  // Azurite answers so, too, where the key is wrong, and to some questions without a text that would tell.
  AuthorizationFailure: ({ place, text }) => [
    // An answer without a body does not say which of the two it is.
    /not authorized to perform this operation/i.test(text)
      ? `Account ${place.account} does not accept this network address.`
      : `Azure refused the ${place.credential} or this network address for account ${place.account}.`,
    `${WHAT_TO_CHECK[place.source]} If it is right, allow the address in the storage firewall, or use the private endpoint.`,
  ],
  AuthorizationPermissionMismatch: ({ place, doing }) => [
    `The ${place.credential} may not do this on container ${place.container} (${doing}).`,
    ['sas', 'connection-string'].includes(place.source)
      ? ANOTHER_SAS
      : 'Give it the role Storage Blob Data Contributor on the container (a new assignment takes minutes to act).',
  ],
  AuthorizationResourceTypeMismatch: sasOfAnotherKind,
  AuthorizationServiceMismatch: sasOfAnotherKind,
  AuthorizationSourceIPMismatch: ({ place }) => [
    `The ${place.credential} is not good for this network address.`,
    'Make a SAS token for the address that Azure sees, or for any.',
  ],
  AuthorizationProtocolMismatch: ({ place }) => [
    `The ${place.credential} allows https only.`,
    'Name the endpoint with https, or make a SAS token that allows http as well.',
  ],
  KeyBasedAuthenticationNotPermitted: ({ place }) => [
    `Account ${place.account} forbids access by key.`,
    'Use a service principal or another identity: see SNAPSHOT_AZURE_AUTH.',
  ],
  AccountIsDisabled: ({ place }) => [
    `Account ${place.account} is disabled.`,
    'Enable the account or its subscription in the portal.',
  ],
  ContainerNotFound: ({ place }) => [
    `Container ${place.container} does not exist in account ${place.account}.`,
    'Check SNAPSHOT_AZURE_CONTAINER_NAME.',
  ],
  ContainerBeingDeleted: ({ place }) => [
    `Container ${place.container} is being deleted in Azure, and still is after several tries.`,
    'Wait a few minutes, or use another container.',
  ],
  ResourceNotFound: ({ place }) => [
    `Account ${place.account} does not exist at ${place.host}.`,
    'Check SNAPSHOT_AZURE_ACCOUNT_NAME and the endpoint.',
  ],
  BlobNotFound: () => ['The blob does not exist.', '`etcd-snapshot list` shows what there is.'],
  ConditionNotMet: ({ doing }) => [`The blob was changed by somebody else while ${doing}.`, 'Run the command again.'],
};

function sasOfAnotherKind({ place }: Failure): ErrorText {
  return [`The ${place.credential} is not for containers and their blobs.`, ANOTHER_SAS];
}

/** One try of a request took longer than it may. */
export class TryTimeout extends Error {
  constructor(ms: number, cause: unknown) {
    super(`no answer within ${ms / 1000} s`, { cause });
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

/** Whether trying again can help. The SDK itself gives up on 408, 429, 502 and 504, which proxies produce. */
export function isTransient(error: unknown): boolean {
  if (error instanceof TryTimeout) return true;
  const code = codeOf(error);
  // The answer's body broke off, or something between has written another one.
  if (code === 'PARSE_ERROR') return true;
  // Something between changed what was sent: the buffer still holds it as it was.
  if (code === 'Md5Mismatch') return true;
  if (isRestError(error) && error.statusCode !== undefined) {
    return [408, 429, 500, 502, 503, 504].includes(error.statusCode) || code === 'ContainerBeingDeleted';
  }
  return isBroken(code) || code === 'AbortError';
}

/** Whether Azure itself answered, and not a proxy on the way: then the configuration leads to it. */
export function isAnswer(error: unknown): boolean {
  return requestIdOf(error) !== undefined;
}

/**
 * Whether nothing came at all, which may pass: somebody who says no is another matter. So is the identity endpoint of a
 * machine, which is near: where it is silent, there is none.
 */
export function isSilence(error: unknown, { host, source }: Place): boolean {
  if (source === 'managed-identity' && hostOf(error) !== host) return false;
  return error instanceof TryTimeout || isUnheard(codeOf(error));
}

/** Milliseconds that the service asked us to wait, if it did: it names seconds or a date. */
export function retryAfterMs(error: unknown): number | undefined {
  const value = headerOf(error, 'retry-after');
  if (value === undefined) return undefined;
  const ms = /^\d{1,6}$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

/**
 * Turns what the SDK threw into our error; errors of our own pass through.
 * @param doing completes "Azure failed while …"
 * @param before what the last try failed with, where the run's end came while it was waited for the next
 */
export function storageError(place: Place, doing: string, error: unknown, before?: unknown): WorkerError {
  if (error instanceof WorkerError) return error;
  if (error instanceof RunTimeout) {
    const last = before === undefined ? '' : `; the last try failed: ${storageError(place, doing, before).message}`;
    return new StorageError(
      'RunTimeout',
      `${error.message} while ${doing}${last || '.'}`,
      'Is the uplink slow? Raise SNAPSHOT_TIMEOUT (and the Job deadline above it).',
      error,
    );
  }
  // Whatever answers may be no Azure: no more of it is shown than of Azure's own.
  const code = excerpt(codeOf(error), 64);
  const requestId = requestIdOf(error);
  const [message, hint] = explain({
    place,
    doing,
    code,
    text: messageOf(error),
    host: hostOf(error) ?? place.host,
    minutesOff: clockSkewMinutes(error),
    waitMs: retryAfterMs(error),
  });
  return new StorageError(
    code,
    `${excerpt(message, 500)} [${code}${requestId === undefined ? '' : `, request ${requestId}`}]`,
    hint,
    error,
  );
}

function explain(failure: Failure): ErrorText {
  return networkFault(failure) ?? tokenRefusal(failure) ?? refusal(failure) ?? anythingElse(failure);
}

function anythingElse({ doing, waitMs }: Failure): ErrorText {
  return [
    `Azure failed while ${doing}.`,
    waitMs === undefined
      ? 'Look the code up in the documentation of Azure Blob Storage; without a request id it came from a proxy.'
      : `Azure is too busy and asks to wait ${Math.ceil(waitMs / 1000)} s: run the command after that.`,
  ];
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

/** Somebody else wrote to the name of a new snapshot, so that its blocks cannot be committed; no blob has it now. */
export function nameContested(name: string, cause: unknown): StorageError {
  return new StorageError(
    codeOf(cause),
    `Another worker wrote to the name ${name} before this snapshot was committed; nothing was overwritten.`,
    'Run the command again. If there is no other worker, somebody deleted the blob as soon as it was stored.',
    cause,
  );
}

/** When the service answered by its own clock, in milliseconds since 1970, to a second. */
export function serverTimeOf(error: unknown): number | undefined {
  const date = Date.parse(headerOf(error, 'date') ?? '');
  return Number.isNaN(date) ? undefined : date;
}

function headerOf(error: unknown, name: string): string | undefined {
  return isRestError(error) ? error.response?.headers.get(name) : undefined;
}

function requestIdOf(error: unknown): string | undefined {
  const id = headerOf(error, 'x-ms-request-id');
  return id === undefined ? undefined : excerpt(id, 64);
}

/** Never more than the host of an address: the rest of it may hold a signature. */
function hostOf(error: unknown): string | undefined {
  if (error instanceof TryTimeout) return hostOf(error.cause);
  return isRestError(error) && error.request !== undefined ? new URL(error.request.url).host : undefined;
}

function clockSkewMinutes(error: unknown): number {
  const serverTime = serverTimeOf(error);
  return serverTime === undefined ? 0 : Math.floor(Math.abs(Date.now() - serverTime) / 60_000);
}
