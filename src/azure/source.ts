import type { Reader } from '../reader.ts';
import type { VariableName } from '../variables.ts';

/** Where a credential can come from, as logs and messages call it, in the order in which `auto` asks. */
export const CREDENTIAL_NAMES = {
  'connection-string': 'connection string',
  key: 'account key',
  sas: 'SAS token',
  principal: 'service principal',
  'workload-identity': 'workload identity',
  'managed-identity': 'managed identity',
} as const;

export type CredentialSource = keyof typeof CREDENTIAL_NAMES;
export type IdentitySource = 'principal' | 'workload-identity' | 'managed-identity';

interface Variables {
  /** One of these is set where the source is meant at all. */
  readonly signs: readonly VariableName[];
  /** Of each of these, one must be set. */
  readonly needed: readonly (readonly [VariableName, ...VariableName[]])[];
}

const ACCOUNT = ['SNAPSHOT_AZURE_ACCOUNT_NAME', 'SNAPSHOT_AZURE_BLOB_ENDPOINT'] as const;
const PROOF = ['SNAPSHOT_AZURE_PRINCIPAL_PASSWORD', 'SNAPSHOT_AZURE_PRINCIPAL_CERTIFICATE_FILE'] as const;

const SOURCES: Readonly<Record<CredentialSource, Variables>> = {
  'connection-string': {
    signs: ['SNAPSHOT_AZURE_CONNECTION_STRING'],
    needed: [['SNAPSHOT_AZURE_CONNECTION_STRING']],
  },
  key: {
    signs: ['SNAPSHOT_AZURE_ACCOUNT_KEY'],
    needed: [['SNAPSHOT_AZURE_ACCOUNT_NAME'], ['SNAPSHOT_AZURE_ACCOUNT_KEY']],
  },
  sas: { signs: ['SNAPSHOT_AZURE_SAS_TOKEN'], needed: [['SNAPSHOT_AZURE_SAS_TOKEN'], ACCOUNT] },
  principal: {
    signs: ['SNAPSHOT_AZURE_PRINCIPAL_APPID', 'SNAPSHOT_AZURE_PRINCIPAL_TENANT', ...PROOF],
    needed: [['SNAPSHOT_AZURE_PRINCIPAL_APPID'], ['SNAPSHOT_AZURE_PRINCIPAL_TENANT'], PROOF, ACCOUNT],
  },
  'workload-identity': {
    signs: ['AZURE_FEDERATED_TOKEN_FILE'],
    needed: [['AZURE_FEDERATED_TOKEN_FILE'], ['AZURE_CLIENT_ID'], ['AZURE_TENANT_ID'], ACCOUNT],
  },
  // Nothing in the environment of a virtual machine tells that it has one, and asking in vain takes long: it must be named.
  'managed-identity': { signs: [], needed: [ACCOUNT] },
};

const SOURCE_ORDER = Object.keys(SOURCES) as CredentialSource[];

export interface Choice {
  readonly source: CredentialSource;
  /** Sources that are set too and are not used. */
  readonly unused: readonly CredentialSource[];
}

/**
 * What SNAPSHOT_AZURE_AUTH names, or else the first source whose variables are complete, or else the first that is begun
 * (specification: sources and precedence). What the choice lacks is noted as a fault.
 */
export function chooseSource(reader: Reader): Choice {
  const isSet = (name: VariableName): boolean => reader.isSet(name);
  const begun = SOURCE_ORDER.filter((source) => SOURCES[source].signs.some(isSet));
  const complete = begun.find((source) => SOURCES[source].needed.every((names) => names.some(isSet)));
  const asked = reader.choice('SNAPSHOT_AZURE_AUTH', ['auto', ...SOURCE_ORDER]) ?? 'auto';
  const source = asked === 'auto' ? (complete ?? begun[0] ?? 'key') : asked;
  for (const names of SOURCES[source].needed) {
    if (!names.some(isSet)) reader.missing(names[0]);
  }
  return { source, unused: begun.filter((other) => other !== source) };
}
