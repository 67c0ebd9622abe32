import type { Reader } from '../reader.ts';
import { Secret } from '../secret.ts';
import { DIRECTORY_ID_RULE } from './rules.ts';
import type { IdentitySource } from './source.ts';

/** Who asks Entra ID for a token, and what proves it. */
export type Identity = ServicePrincipal | WorkloadIdentity | ManagedIdentity;

export interface ServicePrincipal {
  readonly kind: 'principal';
  readonly appId: string;
  readonly tenant: string;
  readonly proof: { readonly password: Secret } | { readonly certificateFile: string };
  /** Origin, such as `https://login.microsoftonline.com`. */
  readonly authorityHost: string;
}

export interface WorkloadIdentity {
  readonly kind: 'workload-identity';
  readonly clientId: string;
  readonly tenant: string;
  readonly tokenFile: string;
  readonly authorityHost: string;
}

/** Its endpoint is a matter of the machine: the SDK finds it. */
export interface ManagedIdentity {
  readonly kind: 'managed-identity';
  /** Undefined = the system-assigned one. */
  readonly clientId: string | undefined;
}

/** @param authority the cloud's, where no variable names another */
export function readIdentity(reader: Reader, source: IdentitySource, authority: string): Identity {
  // What is missing is noted as a fault already.
  const id = (name: Parameters<Reader['text']>[0]): string => reader.text(name, DIRECTORY_ID_RULE) ?? '';
  const named = reader.origin('SNAPSHOT_AZURE_AUTHORITY_HOST');
  switch (source) {
    case 'principal': {
      const certificateFile = reader.text('SNAPSHOT_AZURE_PRINCIPAL_CERTIFICATE_FILE');
      const password = new Secret(reader.text('SNAPSHOT_AZURE_PRINCIPAL_PASSWORD') ?? '');
      return {
        kind: source,
        appId: id('SNAPSHOT_AZURE_PRINCIPAL_APPID'),
        tenant: id('SNAPSHOT_AZURE_PRINCIPAL_TENANT'),
        proof: certificateFile === undefined ? { password } : { certificateFile },
        authorityHost: named ?? authority,
      };
    }
    case 'workload-identity':
      return {
        kind: source,
        clientId: id('AZURE_CLIENT_ID'),
        tenant: id('AZURE_TENANT_ID'),
        tokenFile: reader.text('AZURE_FEDERATED_TOKEN_FILE') ?? '',
        authorityHost: named ?? reader.origin('AZURE_AUTHORITY_HOST') ?? authority,
      };
    case 'managed-identity':
      return { kind: source, clientId: reader.text('SNAPSHOT_AZURE_MANAGED_IDENTITY_CLIENT_ID', DIRECTORY_ID_RULE) };
  }
}
