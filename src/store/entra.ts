import type { CredentialSource } from '../azure/source.ts';
import type { Failure, Sentence } from './failure.ts';
import { clockIsOff } from './refusals.ts';

/** Who asks is known by these variables; a managed identity by the machine. */
const VARIABLES: Partial<Record<CredentialSource, { readonly id: string; readonly tenant: string }>> = {
  principal: { id: 'SNAPSHOT_AZURE_PRINCIPAL_APPID', tenant: 'SNAPSHOT_AZURE_PRINCIPAL_TENANT' },
  'workload-identity': { id: 'AZURE_CLIENT_ID', tenant: 'AZURE_TENANT_ID' },
};

/** Why an identity is given no token, by the number with which Entra ID begins its text. */
export function tokenRefusal({ place, code, text, host, minutesOff }: Failure): Sentence | undefined {
  if (host === place.host) return undefined;
  if (place.source === 'managed-identity') {
    return [
      `The identity endpoint at ${host} gave no token: ${firstSentence(text)}`,
      'Assign the managed identity to this machine, or check SNAPSHOT_AZURE_MANAGED_IDENTITY_CLIENT_ID.',
    ];
  }
  const { id, tenant } = VARIABLES[place.source] ?? { id: 'its id', tenant: 'its tenant' };
  const noFederation: Sentence = [
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
