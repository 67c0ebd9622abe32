import { UsageError, VerificationError } from '../errors.ts';
import type { Identity } from '../sealed/age-header.ts';
import { type ClusterIds, isRecorded, type Recorded } from '../snapshot/inventory.ts';
import { isClusterId } from '../snapshot/record.ts';
import { isEncrypted } from '../snapshot/snapshot-name.ts';
import { isFileName } from '../snapshot/operand-name.ts';
import {
  factsOf,
  openBlob,
  openFileOrSealed,
  openNewest,
  readThrough,
  type SnapshotSource,
  withIdentities,
} from '../snapshot/source.ts';
import type { SnapshotFacts } from '../snapshot/verify/verdict.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import type { BlobStore } from '../store/store.ts';
import { printable } from '../text.ts';
import { parseTime, TIME_HINT } from '../time.ts';
import { type Arguments, type Context, openStore } from './command.ts';
import { ensureOnline } from './rehydrate.ts';

/** The file or stored snapshot that an operand names. @throws WorkerError (no such snapshot), StorageError */
export async function openSource(
  context: Context,
  operand: string,
  options: Arguments['options'] = {},
  store?: BlobStore,
): Promise<SnapshotSource> {
  if (!isFileName(operand)) {
    return withKnownIdentities(await openBlob(store ?? (await openStore(context)), operand), context, options);
  }
  const load = async () => loadIdentities(context, options);
  const skipHashCheck = options['skip-hash-check'] === true;
  return logged(await openFileOrSealed(operand, context.signal, load, { skipHashCheck }), context);
}

/** With the identities for an encrypted snapshot, if they are known. */
export async function withKnownIdentities(
  source: SnapshotSource,
  context: Context,
  options: Arguments['options'],
): Promise<SnapshotSource> {
  logged(source, context);
  const { stored } = source;
  if (stored === undefined || !isEncrypted(stored.encoding)) return source;
  const identities = await loadIdentities(context, options);
  return identities === undefined ? source : withIdentities(source, stored, identities);
}

const loaded = new WeakMap<Context, Promise<readonly Identity[]>>();

/** The identities that open encrypted snapshots; undefined where no file of them is named. Asks for its passphrase once. */
export async function loadIdentities(
  context: Context,
  options: Arguments['options'],
): Promise<readonly Identity[] | undefined> {
  const { config, askPassphrase } = context;
  const file = typeof options['identity'] === 'string' ? options['identity'] : config.identityFile;
  if (file === undefined) return undefined;
  const { readIdentities } = await import('../sealed/identities.ts');
  const known = loaded.get(context);
  if (known !== undefined) return known;
  const identities = readIdentities(file, askPassphrase);
  loaded.set(context, identities);
  await identities;
  const { warnAboutAccess } = await import('../sealed/signing-keys.ts');
  await warnAboutAccess(file, 'identity file', context.log);
  return identities;
}

/**
 * The named snapshot, or the newest one of the cluster with a record, taken before a time if one is given.
 * @throws WorkerError (no such snapshot), StorageError, UsageError
 */
export async function openNamedOrNewest(
  context: Context,
  operand: string | undefined,
  options: Arguments['options'],
  store?: BlobStore,
): Promise<SnapshotSource> {
  const source = await choose(context, operand, options, store);
  const isStored = source.etag !== undefined;
  if (isStored && options['rehydrate'] === true) {
    await ensureOnline(store ?? (await openStore(context)), source, context.log);
  }
  return source;
}

async function choose(
  context: Context,
  operand: string | undefined,
  options: Arguments['options'],
  store?: BlobStore,
): Promise<SnapshotSource> {
  const ids = readIds(context, options);
  if (operand === undefined) {
    const wanted = { ...ids, takenBefore: readTakenBefore(options) };
    const newest = await openNewest(store ?? (await openStore(context)), wanted, context.log);
    return withKnownIdentities(newest, context, options);
  }
  const source = await openSource(context, operand, options, store);
  const { name, record } = source;
  if (ids.clusterId === undefined || record?.clusterId === ids.clusterId) return source;
  const whose =
    record === undefined ? 'has no record: its cluster is unknown' : `belongs to cluster ${record.clusterId}`;
  throw new UsageError(`${printable(name)} ${whose}.`, 'Omit --cluster-id, or do not name a snapshot.');
}

/** The name of the newest stored snapshot that the options mean. @throws WorkerError (no such snapshot), StorageError, UsageError */
export async function newestName(context: Context, store: BlobStore, options: Arguments['options']): Promise<string> {
  const wanted = { ...readIds(context, options), takenBefore: readTakenBefore(options) };
  return (await openNewest(store, wanted, context.log)).name;
}

/** An id on the command line means that cluster only, not its previous ids. @throws UsageError */
function readIds({ config }: Context, options: Arguments['options']): ClusterIds {
  const [clusterId] = readClusterIds(options['cluster-id']);
  return clusterId === undefined ? config.retention : { clusterId, previousClusterIds: [] };
}

/** @throws UsageError */
function readTakenBefore({ 'taken-before': given }: Arguments['options']): Date | undefined {
  if (typeof given !== 'string') return undefined;
  const time = parseTime(given);
  if (time !== undefined) return time;
  throw new UsageError(`--taken-before ${printable(given)} is not a time.`, TIME_HINT);
}

function logged(source: SnapshotSource, { log, config }: Context): SnapshotSource {
  const { name, etag, problem } = source;
  if (etag === undefined) log.info('reading a local file', { file: name });
  else log.info('reading a stored snapshot', { name, container: config.storage?.container ?? null });
  if (problem !== undefined) log.warn(`ignoring the record of ${name}: ${problem}`);
  return source;
}

/** The values of an option that can be repeated. @throws UsageError */
export function readClusterIds(option: unknown): string[] {
  const ids = option === undefined ? [] : [option].flat().map(String);
  const wrong = ids.find((id) => !isClusterId(id));
  if (wrong === undefined) return ids;
  throw new UsageError(
    `--cluster-id ${printable(wrong)} is not a cluster id.`,
    'Use an id that `etcd-snapshot list` shows, in lower-case hex.',
  );
}

/** Reads a whole snapshot. @throws VerificationError when it is corrupt, or does not match its record */
export async function readVerified(context: Context, source: SnapshotSource): Promise<SnapshotFacts> {
  const verdict = await readThrough(source, context);
  return factsOf(source, verdict, `Run \`etcd-snapshot verify ${source.name}\` to see all problems.`);
}

/** @param listed the blob of this name in a catalogue @throws VerificationError for one that does not count as a snapshot */
export function assertCounts(name: string, listed: StoredBlob | undefined): Recorded<StoredBlob> {
  if (listed !== undefined && isRecorded(listed)) return listed;
  throw new VerificationError(
    `${printable(name)} does not count as a snapshot: ${listed?.problem ?? 'it has no record'}.`,
    'Use another snapshot. To see them, run: etcd-snapshot list',
  );
}
