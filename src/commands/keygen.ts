import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { open, unlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { UsageError } from '../errors.ts';
import { kindOf, onDisk, statOf, sync } from '../files.ts';
import { openOwnDirectory, refusedDirectory } from '../new-directory.ts';
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
 * @throws UsageError when one of them exists; UnsafeError for the directory of another user, or one that others can write to
 */
async function writeNew(dir: string, files: readonly KeyFile[]): Promise<void> {
  const there = await statOf(dir);
  if (there?.isDirectory() === false) {
    throw new UsageError(`${printable(dir)} is ${kindOf(there)}.`, 'Give a directory.');
  }
  const held = await onDisk(`Creating ${dir}`, openOwnDirectory(dir));
  if ((held.stats().mode & 0o022) !== 0) throw refusedDirectory(dir, 'can be written by other users');
  for (const { name } of files) {
    if ((await statOf(held.at(name), 'refuse')) === undefined) continue;
    throw new UsageError(
      `${printable(join(dir, name))} already exists, and is not overwritten.`,
      'Use another directory: what was encrypted and signed with old keys needs them.',
    );
  }
  const written: string[] = [];
  try {
    for (const { name, content } of files) {
      const path = held.at(name);
      await using file = await onDisk(`Creating ${join(dir, name)}`, open(path, 'wx', 0o600));
      written.push(path);
      await onDisk(`Writing ${join(dir, name)}`, file.writeFile(content.reveal()));
      await onDisk(`Writing ${join(dir, name)}`, file.sync());
    }
    await onDisk(`Writing ${dir}`, sync(held.path));
  } catch (error) {
    for (const path of written) await unlink(path);
    throw error;
  }
}
