import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { mkdir, open, unlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { hasCode, UsageError } from '../errors.ts';
import { kindOf, onDisk, statOf, sync } from '../files.ts';
import { Secret } from '../secret.ts';
import { paragraph, printable } from '../text.ts';
import type { Arguments, Context, Outcome } from './command.ts';

interface KeyFile {
  readonly name: string;
  readonly content: Secret;
  /** What it is, and where it is needed. */
  readonly use: string;
}

/** Makes the keys for encrypted and signed snapshots. They exist nowhere else, and nothing is overwritten. */
export async function keygen(context: Context, { operands: [operand = ''], options }: Arguments): Promise<Outcome> {
  const dir = resolve(operand);
  const { generateIdentity } = await import('../sealed/age-header.ts');
  const { keyIdOf } = await import('../sealed/signature.ts');
  const identity = await generateIdentity(options['post-quantum'] === true ? 'post-quantum' : 'x25519');
  const { privateKey, publicKey } = generateKeyPairSync('ed25519', {
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const keyId = keyIdOf(createPublicKey(publicKey));
  const files: readonly KeyFile[] = [
    {
      name: 'identity.txt',
      content: new Secret(`# public key: ${identity.recipient}\n${identity.secret.reveal()}\n`),
      use: 'private: opens encrypted snapshots; keep it and a copy away from the workers',
    },
    {
      name: 'recipient.txt',
      content: new Secret(`${identity.recipient}\n`),
      use: 'public: name it in SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE where backups run',
    },
    {
      name: 'signing.pem',
      content: new Secret(privateKey),
      use: 'private: name it in SNAPSHOT_SIGNING_KEY_FILE where backups run, and nowhere else',
    },
    {
      name: 'verification.pem',
      content: new Secret(publicKey),
      use: 'public: name it in SNAPSHOT_VERIFICATION_KEYS_FILE wherever snapshots are used',
    },
  ];
  await writeNew(dir, files);
  const { fingerprint: recipient } = identity;
  context.log.info('keys made', { dir, recipient, keyId });
  const width = Math.max(...files.map(({ name }) => name.length));
  const summary = `The keys are in ${printable(dir)}; ${recipient} is the fingerprint of the recipient, and ${keyId} the key ID of signatures.`;
  return {
    text: [
      ...files.map(({ name, use }) => `${name.padEnd(width)}  ${use}`),
      '',
      paragraph('Never read verification.pem from the container, where others could replace it.'),
      paragraph(summary),
    ].join('\n'),
    summary,
    json: { dir, files: files.map(({ name }) => name), recipient, keyId },
  };
}

/**
 * Writes all files, or none.
 * @throws UsageError when one of them exists
 */
async function writeNew(dir: string, files: readonly KeyFile[]): Promise<void> {
  await onDisk(`Creating ${dir}`, createDirectory(dir));
  const paths = files.map(({ name }) => join(dir, name));
  for (const path of paths) {
    if ((await statOf(path, 'refuse')) === undefined) continue;
    throw new UsageError(
      `${printable(path)} already exists, and is not overwritten.`,
      'Use another directory: what was encrypted and signed with old keys needs them.',
    );
  }
  const written: string[] = [];
  try {
    for (const { name, content } of files) {
      const path = join(dir, name);
      await using file = await onDisk(`Creating ${path}`, open(path, 'wx', 0o600));
      written.push(path);
      await onDisk(`Writing ${path}`, file.writeFile(content.reveal()));
      await onDisk(`Writing ${path}`, file.sync());
    }
    await onDisk(`Writing ${dir}`, sync(dir));
  } catch (error) {
    for (const path of written) await unlink(path);
    throw error;
  }
}

async function createDirectory(dir: string): Promise<void> {
  try {
    await mkdir(dir, { mode: 0o700 });
  } catch (error) {
    const there = hasCode(error, 'EEXIST') ? await statOf(dir) : undefined;
    if (there === undefined) throw error;
    if (there.isDirectory() && (there.mode & 0o022) !== 0) {
      throw new UsageError(
        `${printable(dir)} can be written by other users, who could replace the keys.`,
        `Use another directory, or run: chmod go-w ${printable(dir)}`,
      );
    }
    if (there.isDirectory()) return;
    throw new UsageError(`${printable(dir)} is ${kindOf(there)}.`, 'Give a directory.');
  }
}
