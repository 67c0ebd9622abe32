import type { EncryptionKey } from '../bundle/encryption-config.ts';
import { ExitCode, WorkerError } from '../errors.ts';
import { Warnings } from '../log.ts';
import { type Identity, identityOf, isOfServer, pathName } from '../objects/identity.ts';
import { LiveValues } from '../objects/live-values.ts';
import { type JsonObject, UnreadableValue } from '../objects/object-values.ts';
import { canBeNamed, canHaveKey, isSelected, type Selection } from '../objects/selection.ts';
import { readObject, type StoredValue } from '../objects/stored-value.ts';
import { type KeyEntry, KeyScanner } from '../snapshot/keys.ts';
import { passBytes, passLeaves } from '../snapshot/passes.ts';
import type { SnapshotSource } from '../snapshot/source.ts';
import type { KeyPages, SnapshotFacts } from '../snapshot/verify/verdict.ts';
import { counted, firstOf, printable } from '../text.ts';
import type { Arguments, Context } from './command.ts';
import { findKnownKeys } from './known-keys.ts';
import { openNamedOrNewest, readVerified } from './snapshot-operand.ts';

/** A verified snapshot whose objects can be read. */
export interface ObjectSource {
  readonly source: SnapshotSource;
  readonly facts: SnapshotFacts;
  readonly keys: readonly EncryptionKey[];
}

export interface FoundObject {
  readonly stored: StoredValue;
  readonly identity: Identity;
  readonly object: JsonObject;
}

/** A value that could not be read. */
export interface Unreadable {
  readonly key: string;
  /** End of a sentence about it. */
  readonly problem: string;
}

/** Verifies a snapshot, and finds the keys that decrypt its Secrets. */
export async function openObjects(
  context: Context,
  operand: string | undefined,
  options: Arguments['options'],
): Promise<ObjectSource> {
  const source = await openNamedOrNewest(context, operand, options);
  const facts = await readVerified(context, source);
  const known = await findKnownKeys(context, source, options, new Warnings(context.log), { resources: 'all' });
  return { source, facts, keys: known?.keys ?? [] };
}

/**
 * Reads the selected objects: those of one namespace in one pass over the snapshot, after its verification.
 * @param wants whether a key can have one, as a latin1 string
 * @returns the values that could not be read, and those of an object that was found under another key already
 */
export async function readObjects(
  context: Context,
  { source, facts, keys }: ObjectSource,
  selection: Selection,
  visit: (found: FoundObject) => void,
  wants = (key: string): boolean => canHaveKey(selection, key),
): Promise<Unreadable[]> {
  const unreadable: Unreadable[] = [];
  const strangers: string[] = [];
  const prefixes = new Set(PREFIXES);
  const seen = new Map<string, string>();
  const read = (stored: StoredValue): void => {
    const key = stored.key.toString();
    try {
      const object = readObject(stored, keys);
      if (object === undefined) {
        strangers.push(key);
        return;
      }
      prefixes.add(prefixOf(key));
      const identity = identityOf(object);
      if (identity === undefined) {
        if (isOfServer(object)) return;
        throw new UnreadableValue('is an object without a name');
      }
      if (!isSelected(selection, identity, object, key)) return;
      const path = pathName(identity);
      const other = seen.get(path);
      if (other !== undefined) {
        throw new UnreadableValue(`has the same object as ${printable(other)}: give --etcd-prefix`);
      }
      seen.set(path, key);
      visit({ stored, identity, object });
    } catch (error) {
      if (!(error instanceof UnreadableValue)) throw error;
      prefixes.add(prefixOf(key));
      if (canBeNamed(selection, key)) unreadable.push({ key, problem: error.message });
    }
  };
  await readValues(context, { source, facts }, wants, read);
  // Other programs can have keys in the same etcd.
  const unknown = strangers.filter((key) => prefixes.has(prefixOf(key)));
  return [...unreadable, ...unknown.map((key) => ({ key, problem: 'is not an object of Kubernetes' }))];
}

/** Reads the live values of the wanted keys. @param wants is given latin1 strings */
async function readValues(
  context: Context,
  { source, facts: { keyPages } }: Pick<ObjectSource, 'source' | 'facts'>,
  wants: (key: string) => boolean,
  visit: (value: StoredValue) => void,
): Promise<void> {
  const live = await findLive(context, source, keyPages, wants);
  if (live.isComplete) {
    for (const value of live.values()) visit(value);
    return;
  }
  const again = (entry: KeyEntry): void => {
    if (!live.isLive(entry)) return;
    visit({ key: Buffer.from(entry.key), value: Buffer.from(entry.value), modRevision: entry.main });
  };
  const scanner = new KeyScanner(keyPages, again, (key) => live.has(key));
  await passBytes(source, `reading the objects of ${source.name}`, context, scanner);
}

/** The live values of the wanted keys, in one pass over the snapshot. @param wants is given latin1 strings */
export async function findLive(
  context: Context,
  source: SnapshotSource,
  pages: KeyPages,
  wants: (key: string) => boolean,
): Promise<LiveValues> {
  const live = new LiveValues();
  const scanner = new KeyScanner(pages, (entry) => live.visit(entry), wants);
  await passLeaves(source, `reading the objects of ${source.name}`, context, scanner);
  return live;
}

/** The first part of a key, such as `/registry`; empty for a key that does not begin with a slash. */
export function prefixOf(key: string): string {
  return /^\/[^/]+\//.exec(key)?.[0] ?? '';
}

/** Where Kubernetes and OpenShift keep objects by default. */
const PREFIXES = ['/registry/', '/kubernetes.io/', '/openshift.io/'];

/** How many are named in the message. */
const NAMED = 3;

/** What a command ends with that could not read everything. Each value is logged. */
export function incompleteness({ log }: Context, unreadable: readonly Unreadable[]): WorkerError | undefined {
  const [first] = unreadable;
  if (first === undefined) return undefined;
  for (const { key, problem } of unreadable) log.warn(`skipped the value of ${printable(key)}: it ${problem}`);
  const problems = unreadable.map(({ key, problem }) => `${printable(key)} ${problem}`);
  const isEncrypted = unreadable.some(({ problem }) => /^is encrypted with key [^,]*$/.test(problem));
  return new WorkerError(
    ExitCode.incomplete,
    `${counted(unreadable.length, 'value')} could not be read: ${firstOf(problems, NAMED).join('; ')}.`,
    isEncrypted
      ? 'Give --encryption-config FILE, the encryption configuration of the API server when the snapshot was taken.'
      : 'To see a value as it is stored, run: etcd-snapshot inspect NAME --get KEY',
  );
}
