import { UsageError } from '../errors.ts';
import { readNamed } from '../files.ts';
import type { Secret } from '../secret.ts';
import { printable } from '../text.ts';
import { decryptWithPassphrase, hasPassphrase, type Identity, parseIdentity } from './age-header.ts';

export type AskPassphrase = (question: string) => Promise<Secret>;

/** The beginning of a file that `age -p` encrypted, with and without armor. */
const ENCRYPTED = /^(age-encryption\.org\/|-----BEGIN AGE ENCRYPTED FILE-----)/;

const HINT = 'Give a file as `age-keygen` writes it, with --identity or SNAPSHOT_ENCRYPTION_IDENTITY_FILE.';

/**
 * The identities of a file, one per line, with remarks that begin with #.
 * @param ask undefined where there is no terminal
 * @throws UsageError; no message contains a line of the file
 */
export async function readIdentities(path: string, ask: AskPassphrase | undefined): Promise<Identity[]> {
  const file = await readNamed(path, 'identity file', HINT, { streams: true });
  const isEncrypted = ENCRYPTED.test(file.toString('latin1', 0, 64));
  const text = (isEncrypted ? await decrypt(path, file, ask) : file).toString();
  const identities: Identity[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const identity = await parseIdentity(trimmed);
    if (identity === undefined) throw invalid(path, `${kindOfLine(trimmed)} in line ${index + 1}`);
    identities.push(identity);
  }
  if (identities.length > 0) return identities;
  throw invalid(path, 'no identity');
}

function invalid(path: string, contains: string): UsageError {
  return new UsageError(`The identity file ${printable(path)} contains ${contains}.`, HINT);
}

function kindOfLine(line: string): string {
  if (line.startsWith('age1')) return 'a recipient instead of a private key';
  if (line.startsWith('AGE-PLUGIN-')) return 'the identity of a plugin, which is not supported,';
  if (line.startsWith('-----BEGIN ')) return 'a key in PEM, which is not one of age,';
  return 'something that is not an identity of age';
}

async function decrypt(path: string, file: Buffer, ask: AskPassphrase | undefined): Promise<Buffer> {
  if (!hasPassphrase(file)) {
    throw new UsageError(
      `The identity file ${printable(path)} is itself encrypted for a recipient, or is damaged.`,
      'Decrypt it first: age -d -i KEY',
    );
  }
  if (ask === undefined) {
    throw new UsageError(
      `The identity file ${printable(path)} has a passphrase, but stdin is not a terminal.`,
      'Run the command on a terminal, or decrypt the file first: age -d',
    );
  }
  const identities = await decryptWithPassphrase(file, await ask(`Passphrase of ${path}: `));
  if (identities !== undefined) return identities;
  throw new UsageError(
    `The passphrase of ${printable(path)} is wrong, or the file is damaged.`,
    'Run the command again, or use a copy of the file.',
  );
}
