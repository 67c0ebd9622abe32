import { type Description, storeSource } from '../backup/store-source.ts';
import { hasCode, StorageError, UsageError, VerificationError, WorkerError } from '../errors.ts';
import { connectAll } from '../etcd/connection.ts';
import { chooseMembers } from '../etcd/select-member.ts';
import { describeFile, type FileFacts, isOfCluster, type RunningCluster } from '../import/describe-file.ts';
import { findFiles, type FoundFiles, readTakenAt, type SnapshotFile } from '../import/find-files.ts';
import { whyNoTime } from '../import/time-of-file.ts';
import { openPacked } from '../import/unpack.ts';
import { Warnings } from '../log.ts';
import { importMetrics } from '../monitoring/metrics.ts';
import { CLOCK_SKEW_MS, isRecorded } from '../snapshot/inventory.ts';
import { parseSnapshotName, snapshotName } from '../snapshot/snapshot-name.ts';
import { readThrough, factsOf, type SnapshotSource } from '../snapshot/source.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import type { BlobStore } from '../store/store.ts';
import { afterColon, counted, firstOf, printable } from '../text.ts';
import { type Arguments, type Context, openStore, type Outcome, prepareSealing } from './command.ts';
import { loadIdentities, readClusterIds } from './snapshot-operand.ts';

/** A valid file that the container does not have. */
interface NewFile extends SnapshotFile {
  readonly source: SnapshotSource;
  readonly facts: FileFacts;
}

interface Checked {
  readonly fresh: readonly NewFile[];
  readonly skipped: readonly { readonly file: string; readonly name: string; readonly sha256: string }[];
  readonly invalid: readonly Invalid[];
}

interface Invalid {
  readonly file: string;
  readonly message: string;
  readonly hint: string;
}

interface Imported extends Pick<Description, 'sha256' | 'revision' | 'clusterId'> {
  readonly file: string;
  readonly name: string;
  readonly size: number;
  readonly takenAt: Date;
  readonly takenAtFrom: SnapshotFile['takenAtFrom'];
}

/**
 * Stores snapshot files of other programs. All files are verified first: an error in what was asked for stores nothing. Then each
 * goes the way of a backup, and is verified again on it.
 */
export async function importFiles(context: Context, { operands, options }: Arguments): Promise<Outcome> {
  const { config, log } = context;
  const warnings = new Warnings(log);
  const [given] = readClusterIds(options['cluster-id']);
  if (given === undefined && config.etcd === undefined) {
    throw new UsageError(
      'A snapshot file does not say which cluster it belongs to, and no cluster was given.',
      'Give --cluster-id HEX, or set SNAPSHOT_ETCD_ENDPOINTS if the cluster runs.',
    );
  }
  const { files, leftOut } = await findFiles(operands, readTakenAt(options['taken-at']), new Date());
  if (files.length === 0) warnings.add(`There is no snapshot file in ${printable(operands.join(', '))}.`);
  if (leftOut.length > 0) warnings.add(...aboutLeftOut(leftOut));
  const sealing = await prepareSealing(config.sealing, warnings);
  const store = await openStore(context);
  const catalogue = await listOf(store);
  const { fresh, skipped, invalid } = await checkFiles(files, catalogue, context, options, warnings);
  const cluster = fresh.length === 0 || given !== undefined ? undefined : await askCluster(context, warnings);
  for (const file of fresh) assertOfCluster(file, cluster);
  const clusterId = given ?? cluster?.clusterId ?? '';
  for (const file of fresh) assertPlausible(file, clusterId, catalogue);
  if (config.readBack === 'off') log.warn('stored snapshots are not read back (SNAPSHOT_READ_BACK=off)');

  const imported: Imported[] = [];
  const changed: Invalid[] = [];
  const taken = new Set(catalogue.flatMap(({ name }) => secondOf(parseSnapshotName(name)?.takenAt) ?? []));
  for (const file of fresh) {
    const takenAt = freeSecond(file, taken, warnings);
    const description = describeFile(file.path, file.facts, takenAt, { clusterId, members: cluster?.members });
    const name = snapshotName(store.prefix, takenAt, sealing?.encoding);
    try {
      await storeSource(name, store, { source: file.source, description }, { ...context, sealing });
    } catch (error) {
      if (isGone(file, error)) warnings.add(error.message);
      else changed.push(await invalidFile(file, error));
      continue;
    }
    const { size, sha256, revision } = file.facts;
    log.info('imported snapshot', { file: file.path, name, size, sha256 });
    imported.push({
      ...{ file: file.path, name, size, sha256, revision, clusterId, takenAt, takenAtFrom: file.takenAtFrom },
    });
  }
  const done = { imported, skipped, invalid: [...invalid, ...changed], leftOut };
  const damaged = new Set(done.invalid.map(({ file }) => file));
  const newest = files.findLast(({ path }) => !damaged.has(path))?.takenAt;
  return { ...outcomeOf(store, done, warnings), measured: importMetrics(imported.length, newest) };
}

/** Names in one message. */
const SHOWN = 5;

function aboutLeftOut(leftOut: FoundFiles['leftOut']): [sentence: string, hint: string] {
  const entries = leftOut.map(({ file, why }) => `${printable(file)} (${why})`);
  return [
    `Left out, because they are no regular files with a name in UTF-8: ${firstOf(entries, SHOWN).join(', ')}.`,
    'Name a link or a directory to import what it leads to, and rename a file whose name is not UTF-8.',
  ];
}

/** The first upload creates a container that is missing. */
async function listOf(store: BlobStore): Promise<readonly StoredBlob[]> {
  try {
    return await store.list();
  } catch (error) {
    if (error instanceof StorageError && error.code === 'ContainerNotFound') return [];
    throw error;
  }
}

/** Verifies all files. Those whose sha256 the container has, or an earlier file, are skipped. */
async function checkFiles(
  files: readonly SnapshotFile[],
  catalogue: readonly StoredBlob[],
  context: Context,
  options: Arguments['options'],
  warnings: Warnings,
): Promise<Checked> {
  const names = new Map(catalogue.filter(isRecorded).map(({ name, record }) => [record.sha256, name]));
  const fresh: NewFile[] = [];
  const skipped: { file: string; name: string; sha256: string }[] = [];
  const invalid: Invalid[] = [];
  for (const file of files) {
    const { path } = file;
    try {
      const source = await openPacked(path, context.signal, async () => loadIdentities(context, options));
      const { keyPages: _, ...facts } = factsOf(source, await readThrough(source, context), 'Use another copy of it.');
      const name = names.get(facts.sha256);
      names.set(facts.sha256, name ?? path);
      if (name === undefined) fresh.push({ ...file, source, facts });
      else skipped.push({ file: path, name, sha256: facts.sha256 });
    } catch (error) {
      if (isGone(file, error)) warnings.add(error.message);
      else invalid.push(await invalidFile(file, error));
    }
  }
  return { fresh, skipped, invalid };
}

/** Whether a file of a directory was removed, as k3s does with its old ones. */
function isGone({ isListed }: SnapshotFile, error: unknown): error is WorkerError {
  return isListed && error instanceof WorkerError && hasCode(error.cause, 'ENOENT');
}

/** @throws the error, if it is not about the file */
async function invalidFile(
  { path, source }: SnapshotFile & { source?: SnapshotSource },
  error: unknown,
): Promise<Invalid> {
  if (!(error instanceof VerificationError)) throw error;
  const changed: unknown = await source?.assertUnchanged().catch((reason: unknown) => reason);
  const { message, hint } = changed instanceof WorkerError ? changed : error;
  return { file: path, message, hint };
}

/** The running cluster. @throws EtcdError; UsageError if the endpoints belong to different clusters */
async function askCluster({ config, log }: Context, warnings: Warnings): Promise<RunningCluster> {
  const { configured } = await connectAll(config.etcd, new Date(), warnings);
  const [first] = (await chooseMembers(configured, log, warnings)).candidates;
  if (first === undefined) throw new Error('there is no candidate');
  return { clusterId: first.status.clusterId, members: await first.connection.listMembers(first.status) };
}

/** @param cluster undefined where its id was given */
function assertOfCluster({ path, facts }: NewFile, cluster: RunningCluster | undefined): void {
  if (cluster === undefined || isOfCluster(facts, cluster)) return;
  throw new UsageError(
    `The members in ${printable(path)} are not those of cluster ${cluster.clusterId}. Nothing was stored.`,
    'Give the id of its cluster with --cluster-id HEX, also if the members of this cluster were replaced since then.',
  );
}

/** A copy of a file can be newer than its snapshot, which a restore would then take for the newest. @throws UsageError */
function assertPlausible(
  { path, facts, takenAt, takenAtFrom }: NewFile,
  id: string,
  catalogue: readonly StoredBlob[],
): void {
  if (takenAtFrom !== 'modification time') return;
  const earlier = catalogue
    .filter(isRecorded)
    .filter(({ record }) => record.clusterId === id && record.takenAt.getTime() < takenAt.getTime() - CLOCK_SKEW_MS)
    .find(({ record }) => record.revision > facts.revision);
  if (earlier === undefined) return;
  throw new UsageError(
    `${printable(path)} was modified at ${takenAt.toISOString()}, but ${earlier.name}, which was taken before, has a higher revision.`,
    'Give the time at which the snapshot was taken with --taken-at. Nothing was stored.',
  );
}

/** Names have a resolution of one second, in which the members of a cluster often take theirs: the next free one is used. */
function freeSecond({ path, takenAt }: SnapshotFile, taken: Set<number>, warnings: Warnings): Date {
  let second = secondOf(takenAt) ?? 0;
  while (taken.has(second)) second++;
  const isSame = second === secondOf(takenAt);
  taken.add(second);
  if (isSame) return takenAt;
  const used = new Date(second * 1000);
  warnings.add(`The time of ${printable(path)} is recorded as ${used.toISOString()}: another snapshot has its second.`);
  return used;
}

function secondOf(time: Date | undefined): number | undefined {
  return time && Math.floor(time.getTime() / 1000);
}

interface Done {
  readonly imported: readonly Imported[];
  readonly skipped: Checked['skipped'];
  readonly invalid: readonly Invalid[];
  readonly leftOut: FoundFiles['leftOut'];
}

function outcomeOf(store: BlobStore, { imported, skipped, invalid, leftOut }: Done, warnings: Warnings): Outcome {
  for (const { file, takenAt } of imported.filter(({ takenAtFrom }) => takenAtFrom === 'modification time')) {
    warnings.add(
      `${printable(file)} ${whyNoTime(file)}: it is recorded as taken when it was last modified, ${takenAt.toISOString()}.`,
      'If that is wrong, delete the blob, and import the file again with --taken-at.',
    );
  }
  const lines = [
    ...imported.map(({ file, name }) => `${file} is stored as ${name}`),
    ...skipped.map(({ file, name }) => `${file} is skipped: ${name} has the same sha256`),
    ...invalid.map(({ file, message }) => `${file} is not stored: ${afterColon(message)}`),
  ];
  const [first] = invalid;
  const summary = `Imported ${counted(imported.length, 'snapshot')}; skipped ${skipped.length}${leftOut.length === 0 ? '' : `; left out ${leftOut.length}`}.`;
  const failure =
    first &&
    new VerificationError(
      `${counted(invalid.length, 'file')} of ${imported.length + skipped.length + invalid.length} could not be imported: ${afterColon(first.message)}`,
      first.hint,
    );
  return {
    text: [...lines, summary].map((line) => printable(line)).join('\n'),
    json: { container: store.containerName, imported, skipped, invalid, leftOut, findings: warnings.sentences },
    summary,
    ...(failure && { partialFailure: failure }),
  };
}
