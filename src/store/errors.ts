import { isRestError } from '@azure/storage-blob';
import { CREDENTIAL_NAMES, type CredentialSource } from '../config/azure.ts';
import { namedFor, type Place } from '../config/place.ts';
import { messageOf, RunTimeout, StorageError, WorkerError } from '../errors.ts';
import { afterColon, excerpt } from '../text.ts';

/** Where the requests go, as messages name it. */
export interface Endpoint {
  readonly place: Place;
  readonly host: string;
  readonly account: string;
  readonly container: string;
  readonly source: CredentialSource;
}

/** A request that failed after all retries. */
interface Failure extends Endpoint {
  /** Completes "failed while …". */
  readonly doing: string;
  /** Azure's, Entra's or the network's. */
  readonly code: string;
  /** What the service, the SDK or the network said. */
  readonly text: string;
  /** The host that was asked: the store's, or that of the token endpoint. */
  readonly asked: string;
  /** Whole minutes between the clock of this host and the service's; 0 where the answer has no date. */
  readonly minutesOff: number;
  /** Milliseconds that the service asked us to wait, if it did. */
  readonly waitMs: number | undefined;
}

/** Names in braces are filled with the values of `valuesOf`. */
type Row = readonly [code: RegExp, message: string, hint: string, when?: (failure: Failure) => boolean];

export const UNTRUSTED = /SELF_SIGNED|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER|^CERT_|ALTNAME/;
export const BROKEN =
  /^(ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ERR_STREAM_PREMATURE_CLOSE|REQUEST_SEND_ERROR)/;

// Azurite answers a wrong key with the code that Azure uses for its firewall; only the text distinguishes them.
const isUnauthenticated = ({ code, text }: Failure): boolean =>
  /^(AuthenticationFailed|InvalidAuthenticationInfo)$/.test(code) || /failed to authenticate/i.test(text);
const isManaged = ({ source }: Failure): boolean => source === 'managed-identity';

const NO_TOKEN = 'Entra ID at {asked} issued no token for the {credential}: {sentence}';
const CLOCK = "The clock of this host differs from Azure's by {minutesOff} minutes.";
const CLOCK_HINT = 'Fix the time synchronization of this host (chrony, systemd-timesyncd).';
const SAS_HINT = 'Create a SAS token for the container with the permissions rcwl, and d for retention.';
const ROLE_HINT =
  'Assign it the role Storage Blob Data Contributor on the container (a new assignment takes minutes to take effect).';

/** The first row that fits says what failed and what to do (specification: errors and the sentence for the user). */
const ERRORS = {
  network: [
    [
      UNTRUSTED,
      'The TLS certificate of {asked} is not trusted: {reason}.',
      'Set NODE_EXTRA_CA_CERTS to the CA of your endpoint, or of the proxy that intercepts TLS.',
    ],
    [
      /^(ENOTFOUND|EAI_AGAIN)$/,
      'Host {unresolved} cannot be resolved.',
      'Check {hostVariable}, SNAPSHOT_AZURE_CLOUD, DNS (the private zone) and proxy.',
    ],
    [
      /^PARSE_ERROR$/,
      '{server} sent an invalid answer while {doing}.',
      'Check the endpoint, and whether a proxy changes its answers.',
    ],
    [/^407$/, 'The proxy requires a user name and a password.', 'Put them into the URL of HTTPS_PROXY.'],
    [/^EPROTO$/, '{server} does not speak TLS.', 'Check protocol and port of the endpoint.'],
    [/^TryTimeout$/, '{server} timed out while {doing}: {text}.', 'Check the network and proxy.'],
    [BROKEN, '{server} cannot be reached while {doing}: {text}.', 'Check the network, proxy and endpoint.'],
  ],
  // Entra's own sentence says what is wrong.
  token: [
    [
      /^/,
      'The identity endpoint at {asked} issued no token: {sentence}',
      'Assign the managed identity to this machine, or check SNAPSHOT_AZURE_MANAGED_IDENTITY_CLIENT_ID.',
      isManaged,
    ],
    [/^AADSTS700024$/, CLOCK, CLOCK_HINT, ({ minutesOff }) => minutesOff > 0],
    [/^AADSTS700024$/, NO_TOKEN, 'Check the clock of this host.'],
    [/^AADSTS7000215$/, NO_TOKEN, 'Set SNAPSHOT_AZURE_PRINCIPAL_PASSWORD to the secret value, not its id.'],
    [/^AADSTS7000222$/, NO_TOKEN, 'Create a new client secret, and set SNAPSHOT_AZURE_PRINCIPAL_PASSWORD to it.'],
    [/^AADSTS7000112$/, NO_TOKEN, 'Enable the application in Entra ID (Enterprise applications).'],
    [/^AADSTS(700016|90002|900023)$/, NO_TOKEN, 'Check {appId}, {tenant} and SNAPSHOT_AZURE_CLOUD.'],
    [
      /^AADSTS700027$/,
      NO_TOKEN,
      'Upload the certificate of SNAPSHOT_AZURE_PRINCIPAL_CERTIFICATE_FILE to the application.',
    ],
    [
      /^AADSTS(70021|700211|700212|700213)$/,
      NO_TOKEN,
      'Compare issuer, subject and audience of the federated credential with those of the cluster; check {appId}.',
    ],
    [
      /^/,
      NO_TOKEN,
      'Look up the error number in the documentation of Entra ID. If there is none, check the proxy: the answer is not from Entra ID.',
    ],
  ],
  service: [
    // Azure accepts requests that were signed up to 15 minutes ago.
    [/^/, CLOCK, CLOCK_HINT, (failure) => failure.minutesOff >= 15 && isUnauthenticated(failure)],
    [
      /^/,
      'Azure refused the {credential} for account {account}: it is wrong, rotated or expired.',
      '{credentialHint}',
      isUnauthenticated,
    ],
    [
      /^AuthorizationFailure$/,
      'Azure refused the {credential} or this network address for account {account}.',
      '{credentialHint} If it is correct, allow the address in the storage firewall, or use the private endpoint.',
    ],
    [
      /^AuthorizationPermissionMismatch$/,
      'The {credential} has no permission on container {container} (failed while {doing}).',
      '{permissionHint}',
    ],
    [
      /^Authorization(ResourceType|Service)Mismatch$/,
      'The {credential} does not allow access to containers and blobs.',
      SAS_HINT,
    ],
    [
      /^AuthorizationSourceIPMismatch$/,
      'The {credential} is not valid for this network address.',
      'Create a SAS token for the public address of this host, or without a range of addresses.',
    ],
    [
      /^AuthorizationProtocolMismatch$/,
      'The {credential} allows https only.',
      'Write the endpoint with https://, or create a SAS token that allows http as well.',
    ],
    [
      /^KeyBasedAuthenticationNotPermitted$/,
      'Account {account} forbids access by key.',
      'Use a service principal or another identity: see SNAPSHOT_AZURE_AUTH.',
    ],
    [/^AccountIsDisabled$/, 'Account {account} is disabled.', 'Enable the account or its subscription in the portal.'],
    [
      /^ContainerNotFound$/,
      'Container {container} does not exist in account {account}.',
      'Check SNAPSHOT_AZURE_CONTAINER_NAME; the first `etcd-snapshot backup` creates the container.',
    ],
    [
      /^ContainerBeingDeleted$/,
      'Container {container} is still being deleted after several attempts.',
      'Wait a few minutes, or use another container.',
    ],
    [
      /^ResourceNotFound$/,
      'Account {account} does not exist at {host}.',
      'Check SNAPSHOT_AZURE_ACCOUNT_NAME and the endpoint.',
    ],
    [
      /^BlobArchived$/,
      'The blob is in the archive tier, and cannot be read (failed while {doing}).',
      'Run `etcd-snapshot restore` with --rehydrate and the name of the snapshot: it makes the snapshot readable again, which can take hours.',
    ],
    [/^BlobNotFound$/, 'The blob does not exist.', 'Run `etcd-snapshot list` to see the snapshots.'],
    [/^ConditionNotMet$/, 'The blob was changed by another process while {doing}.', 'Run the command again.'],
    [
      /^/,
      'Azure failed while {doing}.',
      'Wait {waitSeconds} s, as Azure asks, then run the command again.',
      ({ waitMs }) => waitMs !== undefined,
    ],
    [
      /^/,
      'Azure failed while {doing}.',
      'Look up the code in the documentation of Azure Blob Storage. If there is no request id, check the proxy: the answer is not from Azure.',
    ],
  ],
} satisfies Record<string, readonly Row[]>;

const TENANT_HINT = 'Check that it belongs to the tenant of the subscription of the account.';
const CREDENTIAL_HINTS: Readonly<Record<CredentialSource, string>> = {
  'connection-string':
    'Copy SNAPSHOT_AZURE_CONNECTION_STRING again from the portal (Access keys, or Shared access signature).',
  key: 'Compare SNAPSHOT_AZURE_ACCOUNT_KEY with the keys in the portal (Access keys).',
  sas: 'Create a new token for SNAPSHOT_AZURE_SAS_TOKEN; a token becomes invalid when its key is rotated.',
  principal: TENANT_HINT,
  'workload-identity': TENANT_HINT,
  'managed-identity': TENANT_HINT,
};

function valuesOf(failure: Failure): Readonly<Record<string, unknown>> {
  const { source, host, asked, text, waitMs = 0 } = failure;
  const isStore = asked === host;
  const isSas = source === 'sas' || source === 'connection-string';
  const isWorkload = source === 'workload-identity';
  return {
    ...failure,
    credential: CREDENTIAL_NAMES[source],
    credentialHint: CREDENTIAL_HINTS[source],
    permissionHint: isSas ? SAS_HINT : ROLE_HINT,
    server: isStore ? `Azure at ${host}` : `The token endpoint at ${asked}`,
    hostVariable: isStore ? 'SNAPSHOT_AZURE_ACCOUNT_NAME' : 'SNAPSHOT_AZURE_AUTHORITY_HOST',
    appId: isWorkload ? 'AZURE_CLIENT_ID' : 'SNAPSHOT_AZURE_PRINCIPAL_APPID',
    tenant: isWorkload ? 'AZURE_TENANT_ID' : 'SNAPSHOT_AZURE_PRINCIPAL_TENANT',
    sentence: `${text.split(/(?<=\w)\.(?=\s|$)|[\r\n]/)[0]}.`,
    // Node's advice follows the semicolon.
    reason: text.split(';')[0],
    // The host may be that of a proxy.
    unresolved: /(?:ENOTFOUND|EAI_AGAIN) (\S+)/.exec(text)?.[1] ?? asked,
    waitSeconds: Math.ceil(waitMs / 1000),
  };
}

function explain(failure: Failure): [message: string, hint: string] {
  const rows: readonly Row[] = [...ERRORS.network, ...ERRORS[failure.asked === failure.host ? 'service' : 'token']];
  const row = rows.find(([code, , , when]) => code.test(failure.code) && when?.(failure) !== false);
  const values = valuesOf(failure);
  const fill = (text = ''): string =>
    namedFor(
      failure.place,
      text.replaceAll(/\{(\w+)\}/g, (_, name: string) => String(values[name])),
    );
  return [fill(row?.[1]), fill(row?.[2])];
}

/**
 * Turns what the SDK threw into our error; errors of our own pass through.
 * @param doing completes "Azure failed while …"
 * @param before the error of the last try, where the run ended while the next one was waited for
 */
export function storageError(endpoint: Endpoint, doing: string, error: unknown, before?: unknown): WorkerError {
  if (error instanceof WorkerError) return error;
  if (error instanceof RunTimeout) {
    const last =
      before === undefined
        ? ''
        : `; the last attempt failed: ${afterColon(storageError(endpoint, doing, before).message)}`;
    return new StorageError(
      'RunTimeout',
      `${error.message} while ${doing}${last || '.'}`,
      'If the uplink is slow, raise SNAPSHOT_TIMEOUT and the deadlines of pod and Job.',
      error,
    );
  }
  // The answer may not be from Azure: as little of it is shown as of Azure's own.
  const code = excerpt(codeOf(error), 64);
  const requestId = headerOf(error, 'x-ms-request-id');
  const serverTime = serverTimeOf(error);
  const [message, hint] = explain({
    ...endpoint,
    doing,
    code,
    text: messageOf(error),
    asked: hostOf(error) ?? endpoint.host,
    minutesOff: serverTime === undefined ? 0 : Math.floor(Math.abs(Date.now() - serverTime) / 60_000),
    waitMs: retryAfterMs(error),
  });
  const from = requestId === undefined ? code : `${code}, request ${excerpt(requestId, 64)}`;
  return new StorageError(code, `${excerpt(message, 500)} [${from}]`, hint, error);
}

/** One try of a request took longer than allowed. */
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
    return headerOf(error, 'x-ms-error-code') ?? error.code ?? String(error.statusCode ?? error.name);
  }
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return error instanceof Error ? error.name : 'unknown';
}

/** Whether the service said that there is no such blob. An answer to HEAD may lack the code. */
export function isMissing(error: unknown): boolean {
  return ['BlobNotFound', '404'].includes(codeOf(error));
}

/** Milliseconds that the service asked us to wait, if it did: it names seconds or a date. */
export function retryAfterMs(error: unknown): number | undefined {
  const value = headerOf(error, 'retry-after') ?? '';
  const ms = /^\d{1,6}$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

/** The service's own time when it answered, in milliseconds since 1970, to a second. */
export function serverTimeOf(error: unknown): number | undefined {
  const date = Date.parse(headerOf(error, 'date') ?? '');
  return Number.isNaN(date) ? undefined : date;
}

export function headerOf(error: unknown, name: string): string | undefined {
  return isRestError(error) ? error.response?.headers.get(name) : undefined;
}

/** Never more than the host of an address: the rest of it may hold a signature. */
export function hostOf(error: unknown): string | undefined {
  if (error instanceof TryTimeout) return hostOf(error.cause);
  return isRestError(error) && error.request !== undefined ? new URL(error.request.url).host : undefined;
}
