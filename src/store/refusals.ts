import type { CredentialSource } from '../azure/source.ts';
import type { Failure, Sentence } from './failure.ts';

/** Azure refuses a request that was signed so long ago, or so far in the future. */
const TOLERATED_MINUTES = 15;

/** What the blob service refuses, by its code (specification: errors and the sentence for the user). */
export function refusal(failure: Failure): Sentence | undefined {
  // Azurite answers a wrong key with the code that Azure uses for its firewall; only the text tells them apart.
  if (/failed to authenticate/i.test(failure.text)) return unauthenticated(failure);
  return Object.hasOwn(BY_CODE, failure.code) ? BY_CODE[failure.code]?.(failure) : undefined;
}

export function clockIsOff(minutes: number): Sentence {
  return [
    `The clock of this host differs from Azure's by ${minutes} minutes.`,
    'Repair the time synchronisation of this host (chrony, systemd-timesyncd).',
  ];
}

function unauthenticated({ place, minutesOff }: Failure): Sentence {
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

const BY_CODE: Readonly<Record<string, (failure: Failure) => Sentence>> = {
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

function sasOfAnotherKind({ place }: Failure): Sentence {
  return [`The ${place.credential} is not for containers and their blobs.`, ANOTHER_SAS];
}
