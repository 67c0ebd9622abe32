import type { OpenedBundle } from '../bundle/read-bundle.ts';
import { Interrupted, UnsafeError, UsageError, WorkerError } from '../errors.ts';
import { readNamed } from '../files.ts';
import type { Warnings } from '../log.ts';
import { type KnownKeys, unreadableSecrets } from '../restore/encryption-keys.ts';
import { SecretCounter, type SecretCount } from '../snapshot/encrypted-secrets.ts';
import { KeyScanner } from '../snapshot/keys.ts';
import { passBytes } from '../snapshot/passes.ts';
import { openFile, type SnapshotSource } from '../snapshot/source.ts';
import type { SnapshotFacts } from '../snapshot/verify/verdict.ts';
import type { BlobStore } from '../store/store.ts';
import { afterColon, printable } from '../text.ts';
import { type Arguments, type Context, openStore } from './command.ts';
import { loadIdentities } from './snapshot-operand.ts';

const HINT = 'Give the file that the API server uses (--encryption-provider-config).';

/** What to do where a bundle lacks a key. */
export const FIND = 'Find the encryption configuration that was used when the snapshot was taken.';

type Resources = 'secrets' | 'all';

/** The keys of the file of --encryption-config. @throws UsageError when it is none */
export async function readEncryptionConfig(path: string, resources: Resources = 'secrets'): Promise<KnownKeys> {
  const text = (await readNamed(path, 'encryption configuration', HINT)).toString();
  const { encryptionKeysIn } = await import('../bundle/encryption-config.ts');
  const keys = encryptionKeysIn(text, resources);
  const where = printable(path);
  if (keys !== undefined) return { keys, where, isGiven: true, hasConfig: true };
  throw new UsageError(`${where} is not an encryption configuration of the API server.`, HINT);
}

interface KeyOptions {
  readonly store?: BlobStore | undefined;
  readonly resources?: Resources;
  /** What `openKnownBundle` returned, if it was called before. */
  readonly bundle?: OpenedBundle | WorkerError | undefined;
}

/**
 * The keys with which the Secrets of a snapshot are compared, or its objects are decrypted: of --encryption-config, or of its bundle. A
 * bundle that cannot be opened is a warning.
 * @returns undefined where there is neither
 */
export async function findKnownKeys(
  context: Context,
  source: SnapshotSource,
  options: Arguments['options'],
  warnings: Warnings,
  { store, resources = 'secrets', bundle }: KeyOptions = {},
): Promise<KnownKeys | undefined> {
  const file = options['encryption-config'];
  if (typeof file === 'string') return readEncryptionConfig(file, resources);
  const opened = bundle ?? (await openKnownBundle(context, source, options, store));
  if (opened instanceof WorkerError) {
    warnings.add(`The keys of the bundle were not used: ${afterColon(opened.message)}`, opened.hint);
    return undefined;
  }
  if (opened === undefined) return undefined;
  const { encryptionKeysIn } = await import('../bundle/encryption-config.ts');
  const found = opened.entries.flatMap(({ content }) => {
    const keys = encryptionKeysIn(content.toString(), resources);
    return keys === undefined ? [] : [keys];
  });
  const where = `the bundle ${printable(opened.name)}`;
  return { keys: found.flat(), where, isGiven: false, hasConfig: found.length > 0 };
}

/**
 * The bundle of a snapshot, or why it cannot be opened.
 * @returns undefined where it has none, or no identities are known
 */
export async function openKnownBundle(
  context: Context,
  source: SnapshotSource,
  options: Arguments['options'],
  store?: BlobStore,
): Promise<OpenedBundle | WorkerError | undefined> {
  if (source.record?.bundleSha256 === undefined) return undefined;
  const identities = await loadIdentities(context, options);
  if (identities === undefined) return undefined;
  const { openBundle } = await import('../bundle/read-bundle.ts');
  try {
    return await openBundle(store ?? (await openStore(context)), source, identities);
  } catch (error) {
    if (!(error instanceof WorkerError) || error instanceof Interrupted) throw error;
    return error;
  }
}

/** How the Secrets of a verified file are encrypted. */
export async function countSecrets(context: Context, file: string, facts: SnapshotFacts): Promise<SecretCount[]> {
  const secrets = new SecretCounter();
  const scanner = new KeyScanner(facts.keyPages, (entry) => secrets.visit(entry));
  await passBytes(await openFile(file, context.signal), 'reading how Secrets are encrypted', context, scanner);
  return secrets.counts();
}

/**
 * Before a restore: whether the API server could read the Secrets of a verified file.
 * @throws UnsafeError when a given file lacks a key; for a bundle it is a warning, as this snapshot cannot be restored any better
 */
export async function assertSecretsReadable(
  context: Context,
  known: KnownKeys,
  { file, facts }: { readonly file: string; readonly facts: SnapshotFacts },
  warnings: Warnings,
): Promise<void> {
  const problems = unreadableSecrets(await countSecrets(context, file, facts), known);
  if (problems.length === 0) return;
  if (known.isGiven) {
    throw new UnsafeError(
      problems.join(' '),
      'Nothing was restored. Give the encryption configuration that was used when the snapshot was taken, or omit the option.',
    );
  }
  for (const problem of problems) warnings.add(problem, FIND);
}
