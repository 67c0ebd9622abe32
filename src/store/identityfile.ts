import type { Identity } from '../azure/identity.ts';
import { UsageError } from '../errors.ts';
import { readNamed } from '../files.ts';
import { assertValid, certificateIn, privateKeyIn } from '../keyfile.ts';

/**
 * Checks the file with which an identity proves itself: what the SDK would say is late, and hard to understand.
 * @throws UsageError
 */
export async function checkFile(identity: Identity): Promise<void> {
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
