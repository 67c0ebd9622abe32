import { UsageError } from '../errors.ts';
import { readNamed } from '../files.ts';
import type { Secret } from '../secret.ts';
import { printable } from '../text.ts';
import { decryptWithPassphrase, type Identity, parseIdentity } from './age-header.ts';

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
  const file = await readNamed(path, 'identity file', HINT);
  const isEncrypted = ENCRYPTED.test(file.toString('latin1', 0, 64));
  const text = (isEncrypted ? await decrypt(path, file, ask) : file).toString();
  const lines = text.split('\n').map((line) => line.trim());
  const parsed = await Promise.all(
    lines.filter((line) => line !== '' && !line.startsWith('#')).map(async (line) => parseIdentity(line)),
  );
  const identities = parsed.filter((identity) => identity !== undefined);
  if (identities.length > 0 && identities.length === parsed.length) return identities;
  const problem = parsed.length === 0 ? 'contains no identity' : 'has a line that is not an identity of age';
  throw new UsageError(`The identity file ${printable(path)} ${problem}.`, HINT);
}

async function decrypt(path: string, file: Buffer, ask: AskPassphrase | undefined): Promise<Buffer> {
  if (ask === undefined) {
    throw new UsageError(
      `The identity file ${printable(path)} has a passphrase, but stdin is not a terminal.`,
      'Run the command on a terminal, or decrypt the file first: age -d',
    );
  }
  const identities = await decryptWithPassphrase(file, await ask(`Passphrase of ${path}: `));
  if (identities !== undefined) return identities;
  throw new UsageError(`The passphrase of ${printable(path)} is wrong.`, 'Run the command again.');
}
