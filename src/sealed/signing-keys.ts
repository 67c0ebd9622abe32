import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { realpath, stat } from 'node:fs/promises';
import type { SignatureConfig } from '../config/config.ts';
import type { VariableName } from '../config/variables.ts';
import { ConfigurationError, UsageError } from '../errors.ts';
import { readNamed, warningAboutWriters } from '../files.ts';
import type { Log } from '../log.ts';
import { Secret } from '../secret.ts';
import { printable } from '../text.ts';
import { Signatures } from './signature.ts';

const HINT =
  'Check the file (in Kubernetes: its mount). To make new keys, run `etcd-snapshot keygen DIR`. Nothing was done.';

/** Names of a kubelet for the directory in which it puts the files of a mounted Secret. */
const OF_KUBELET = /\/\.\.\d{4}_/;

/**
 * The keys of a run, from their files.
 * @throws ConfigurationError that names the variable of each file that cannot be used
 */
export async function loadSignatures(
  { signingKeyFile, verificationKeysFile }: SignatureConfig,
  log: Log,
): Promise<Signatures> {
  const problems: string[] = [];
  const load = async <T>(
    variable: VariableName,
    path: string | undefined,
    parse: (pem: string) => T | string,
  ): Promise<T | undefined> => {
    if (path === undefined) return undefined;
    try {
      const parsed = parse((await readNamed(path, 'file', HINT)).toString());
      if (typeof parsed !== 'string') return parsed;
      problems.push(`${variable}: the file ${printable(path)} ${parsed}`);
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      problems.push(`${variable}: ${error.message.replace(/^The /, 'the ').replace(/\.$/, '')}`);
    }
    return undefined;
  };
  const signingKey = await load('SNAPSHOT_SIGNING_KEY_FILE', signingKeyFile, parseSigningKey);
  const verificationKeys = await load('SNAPSHOT_VERIFICATION_KEYS_FILE', verificationKeysFile, parseVerificationKeys);
  const signatures = problems.length > 0 ? undefined : new Signatures(signingKey, verificationKeys ?? []);
  const { signingKeyId, verificationKeyIds = [], areRequired } = signatures ?? {};
  if (areRequired === true && signingKeyId !== undefined && !verificationKeyIds.includes(signingKeyId)) {
    problems.push(`SNAPSHOT_VERIFICATION_KEYS_FILE does not contain the public key of SNAPSHOT_SIGNING_KEY_FILE`);
  }
  if (signatures === undefined || problems.length > 0) throw new ConfigurationError(problems, HINT);
  if (signingKeyFile !== undefined) await warnAboutAccess(signingKeyFile, 'signing key', log);
  if (verificationKeysFile !== undefined) {
    for (const [sentence, hint] of await warningAboutWriters(verificationKeysFile, 'verification keys')) {
      log.warn(sentence, { hint });
    }
  }
  return signatures;
}

/** @returns a problem, in words that follow the name of the file */
function parseSigningKey(pem: string): Secret | string {
  if (pem.includes('-----BEGIN ENCRYPTED')) return 'is encrypted; a key without a passphrase is needed';
  if ((pem.match(/-----BEGIN /g) ?? []).length > 1) return 'contains several keys';
  if (!pem.includes('-----BEGIN PRIVATE KEY-----')) return 'contains no private key in PEM (PKCS#8)';
  const key = keyIn(() => createPrivateKey(pem));
  return key?.asymmetricKeyType === 'ed25519' ? new Secret(pem) : 'does not contain an Ed25519 private key';
}

/** @returns a problem, in words that follow the name of the file */
function parseVerificationKeys(pem: string): readonly KeyObject[] | string {
  // Node would take the public half of it.
  if (/-----BEGIN [A-Z ]*PRIVATE KEY/.test(pem)) return 'contains a private key, and only public keys belong there';
  const blocks = pem.match(/-----BEGIN PUBLIC KEY-----[^-]*-----END PUBLIC KEY-----/g) ?? [];
  const marks = pem.match(/-----BEGIN /g) ?? [];
  if (marks.length === 0) return 'contains no public key in PEM';
  const keys = blocks.flatMap((block) => keyIn(() => createPublicKey(block)) ?? []);
  const isComplete = keys.length === marks.length && keys.every((key) => key.asymmetricKeyType === 'ed25519');
  return isComplete ? keys : 'contains something else than Ed25519 public keys';
}

function keyIn(parse: () => KeyObject): KeyObject | undefined {
  try {
    return parse();
  } catch {
    return undefined;
  }
}

/**
 * As ssh does. A mounted Secret is readable for everybody by default, and only containers of its pod see it.
 * @param what a private key, for the message
 */
export async function warnAboutAccess(path: string, what: string, log: Log): Promise<void> {
  const stats = await stat(path);
  if (!stats.isFile() || (stats.mode & 0o077) === 0 || OF_KUBELET.test(await realpath(path))) return;
  log.warn(`The ${what} ${printable(path)} can be read by other users.`, {
    hint: `Run: chmod 600 ${printable(path)}`,
  });
}
