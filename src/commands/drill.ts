import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DrillDirectory, DrillServer, findServer, makeRootToken } from '../drill/etcd-server.ts';
import { ExitCode, StorageError, UsageError, VerificationError, WorkerError } from '../errors.ts';
import type { OpenedBundle } from '../bundle/read-bundle.ts';
import type { Connection } from '../etcd/connection.ts';
import { assertSpace } from '../files.ts';
import { Warnings } from '../log.ts';
import { drillMetrics } from '../monitoring/metrics.ts';
import { Stopwatch } from '../progress.ts';
import { type KnownKeys, readableCount, totalCount, unreadableSecrets } from '../restore/encryption-keys.ts';
import { checkVersion, findTool, runRestore, versionsOf, WAL_SIZE } from '../restore/etcd-tool.ts';
import { fetchVerified } from '../restore/fetch-and-verify.ts';
import { aloneAs, tokenOf } from '../restore/initial-members.ts';
import { makePlan } from '../restore/plan.ts';
import type { SecretCount } from '../snapshot/encrypted-secrets.ts';
import { KeyScanner, type LiveKey, LiveKeys, sampler } from '../snapshot/keys.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import { isFileName } from '../snapshot/operand-name.ts';
import { passBytes } from '../snapshot/passes.ts';
import { openFile, type SnapshotSource } from '../snapshot/source.ts';
import { assertReadable, storedJson } from '../snapshot/stored-form.ts';
import { crc32c } from '../snapshot/verify/checksums.ts';
import type { SnapshotFacts } from '../snapshot/verify/verdict.ts';
import type { DrillNote } from '../store/drill-notes.ts';
import type { BlobStore } from '../store/store.ts';
import { afterColon, drawTable, humanSeconds, humanSize, printable } from '../text.ts';
import { drillRecovery } from '../drill/drill-recovery.ts';
import { type Arguments, type Context, openStore, type Outcome } from './command.ts';
import { countSecrets, FIND, findKnownKeys, openKnownBundle } from './known-keys.ts';
import { openNamedOrNewest } from './snapshot-operand.ts';

/** Number of keys that are compared with their values; HashKV covers all of them at once. */
const SAMPLE = 100;

/** The name of the only member. */
const MEMBER = 'drill';

/** The range of all keys, without the empty one: a restore can leave such an entry, which is not a key. */
const EVERYTHING = { key: Buffer.from([0]), range_end: Buffer.from([0]) };

/** One thing that must be the same in the record, the snapshot and the server that was started from it. */
interface Check {
  readonly what: string;
  readonly expected: string | number;
  readonly found: string | number;
  readonly ok: boolean;
}

/**
 * Proves that a snapshot can be restored: etcd's own tool restores it into a temporary directory, a real etcd starts from that,
 * and its data is compared with the snapshot and the record. Nothing is left. The durations are those of a recovery on this host.
 */
export async function drill(context: Context, { operands: [operand], options }: Arguments): Promise<Outcome> {
  const { searchPath, log, signal } = context;
  const watch = new Stopwatch();
  const warnings = new Warnings(log);

  const tool = await findTool(searchPath, signal);
  const program = await findServer(tool, searchPath);
  const store = operand !== undefined && isFileName(operand) ? undefined : await openStore(context);
  const source = await openNamedOrNewest(context, operand, options, store);
  const { name, size, stored, record, etag, skipHashCheck } = source;
  context.known.clusterId = record?.clusterId;
  assertReadable(name, stored);
  const bundle = await openKnownBundle(context, source, options, store);
  if (bundle instanceof StorageError) throw bundle;
  const known = await findKnownKeys(context, source, options, warnings, { store, bundle });
  const recordWarning = record && checkVersion(tool, versionsOf(record));
  const parent = typeof options['temp-dir'] === 'string' ? options['temp-dir'] : tmpdir();
  const place = await DrillDirectory.create(parent, log);
  const dir = place.path;
  let server: DrillServer | undefined;
  try {
    await assertSpace(dir, (etag === undefined && stored === undefined ? size : 2 * size) + 2 * WAL_SIZE);
    const { file, facts, warning: unchecked } = await watch.time('fetch', fetchVerified(source, dir, context));
    if (unchecked !== undefined) warnings.add(...unchecked);
    const warning = record === undefined ? checkVersion(tool, versionsOf(facts)) : recordWarning;
    if (warning !== undefined) warnings.add(warning);

    const initialCluster = aloneAs(MEMBER, undefined);
    const member = {
      ...{ name: MEMBER, initialCluster, initialClusterToken: tokenOf(facts.sha256) },
      initialAdvertisePeerUrls: initialCluster[0].peerURLs,
    };
    const dataDir = join(dir, 'data');
    const run = { file, size, skipHashCheck, member, dataDir, walDir: undefined, bump: 0 };
    await watch.time('restore', runRestore(tool, run, context));
    await source.assertUnchanged();

    const rootToken = facts.authEnabled ? await makeRootToken(dir, facts.authRevision) : undefined;
    server = await watch.time('start', DrillServer.start({ program, dir, dataDir, name: MEMBER, rootToken, signal }));
    const { version: etcd } = await server.connection.status();

    const sample = await sampleOf(context, file, facts);
    const ofServer = await watch.time('compare', compareServer(server.connection, facts, sample));
    const ofRecord = record === undefined ? [] : compareRecord(record, facts);
    const secrets = known === undefined ? [] : await countSecrets(context, file, facts);
    const unreadable = known === undefined ? [] : unreadableSecrets(secrets, known);
    for (const problem of unreadable) warnings.add(problem, FIND);
    const ofKeys = [...bundleCheck(bundle), ...(known === undefined ? [] : compareKeys(secrets, known))];
    const ofPlan = record === undefined ? [] : [planCheck(source, record, facts)];
    const checks = [...ofRecord, ...ofServer, ...ofKeys, ...ofPlan];

    const durationsMs = watch.durations();
    const { fetch = 0, restore = 0, start = 0 } = durationsMs;
    const recoveryMs = fetch + restore + start;
    const failed = checks.filter((check) => !check.ok);
    const ok = failed.length === 0;
    log.info(ok ? 'drill succeeded' : 'drill failed', { drill: name, ok, size, recoveryMs, ...durationsMs });
    const recovery = ok && store !== undefined ? await drillRecovery(store) : undefined;
    if (ok && store !== undefined) await noteDrill(store, { at: new Date(), snapshot: name, recoveryMs }, warnings);
    const { sha256, effectiveRevision: revision, liveKeys = null } = facts;
    const how = `restorable: ${humanSize(size)} with etcd ${etcd} in ${humanSeconds(recoveryMs)}`;
    const why = failed.every((check) => ofKeys.includes(check))
      ? 'the data is restorable, but not its keys'
      : 'NOT restorable';
    const verdict = `${name}: ${ok ? how : why}`;
    return {
      text: textOf(checks, verdict),
      json: {
        ...{ name, ok, size, sha256, revision, liveKeys, ...storedJson(stored), tool: tool.name, etcd },
        ...{ checks, recoveryMs, durationsMs, findings: warnings.sentences },
      },
      summary: verdict,
      measured: drillMetrics(recoveryMs, durationsMs),
      recovery,
      ...(ok ? {} : { partialFailure: failureOf(name, failed, ofKeys, unreadable, bundle) }),
    };
  } finally {
    await server?.stop();
    await place.remove();
  }
}

/** Compares the record with what the verifier found, except for counts for which it had too little memory. */
function compareRecord(record: SnapshotRecord, facts: SnapshotFacts): Check[] {
  return (['revision', 'totalKeys', 'liveKeys', 'totalSize', 'hash'] as const).flatMap((what) => {
    const [expected, found] = [record[what], facts[what]];
    return expected === undefined || found === undefined ? [] : same(`${what} of the record`, expected, found);
  });
}

/**
 * Compares the server with what the verifier found, at the snapshot's revision: leases that expire while it runs delete keys,
 * and its own revision can be higher.
 * @throws EtcdError
 */
async function compareServer(
  connection: Connection,
  facts: SnapshotFacts,
  sample: readonly LiveKey[],
): Promise<Check[]> {
  const { effectiveRevision: revision, liveKeys, hashKV, totalSize } = facts;
  const at = { revision: String(revision) };
  const { header } = await connection.range({ ...EVERYTHING, limit: 1 });
  const reached = Number(header.revision);
  const checks: Check[] = [{ what: 'revision', expected: revision, found: reached, ok: reached >= revision }];
  if (reached < revision) return checks;
  const { count } = await connection.range({ ...EVERYTHING, ...at, count_only: true });
  if (liveKeys !== undefined) checks.push(same('live keys', liveKeys, Number(count)));
  if (hashKV !== undefined) {
    // At the revision of its compaction, etcd 3.4 answers only for the newest one (0).
    const asked = revision === hashKV.compactRevision ? 0 : revision;
    const { hash, compactRevision } = await connection.hashKV(asked, totalSize);
    checks.push(same('compact revision', hashKV.compactRevision, compactRevision));
    checks.push(same('HashKV', hashKV.hash, hash));
  }
  let equal = 0;
  for (const key of sample) {
    const { kvs } = await connection.range({ key: Buffer.from(key.key, 'latin1'), ...at });
    const [found] = kvs;
    const isEqual = found?.value.length === key.size && crc32c(found.value) === key.crc;
    if (isEqual && Number(found.mod_revision) === key.modRevision && Number(found.version) === key.version) equal++;
  }
  return [...checks, same('keys of a sample with the same value', sample.length, equal)];
}

/** Whether the keys that were stored with the snapshot are still there. */
function bundleCheck(bundle: OpenedBundle | WorkerError | undefined): Check[] {
  if (bundle === undefined) return [];
  const isMissing = bundle instanceof WorkerError && bundle.exitCode === ExitCode.noSuchSnapshot;
  const found = isMissing ? 'missing' : bundle instanceof WorkerError ? 'not usable' : 'as stored';
  return [same('bundle of keys', 'as stored', found)];
}

/** Whether the API server could read the Secrets. */
function compareKeys(secrets: readonly SecretCount[], known: KnownKeys): Check[] {
  if (!known.hasConfig) return [];
  return [same(`Secrets that ${known.where} can read`, totalCount(secrets), readableCount(secrets, known))];
}

function same(what: string, expected: string | number, found: string | number): Check {
  return { what, expected, found, ok: expected === found };
}

const PLAN = 'a plan for all members';

/** A member can be restored without a plan, but not a cluster. */
function planCheck({ name, size }: SnapshotSource, record: SnapshotRecord, file: SnapshotFacts): Check {
  const what = PLAN;
  try {
    makePlan(name, size, record, { layout: 'kubeadm', file, now: new Date() });
    return { what, expected: 'possible', found: 'possible', ok: true };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return { what, expected: 'possible', found: error.message, ok: false };
  }
}

/** An identity with read permission only can run a drill, too. */
async function noteDrill(store: BlobStore, note: DrillNote, warnings: Warnings): Promise<void> {
  try {
    await store.noteDrill(note);
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    warnings.add(`Could not store the result of the drill: ${afterColon(error.message)}`, error.hint);
  }
}

async function sampleOf(context: Context, file: string, facts: SnapshotFacts): Promise<LiveKey[]> {
  const keys = new LiveKeys();
  const isChosen = sampler(SAMPLE, facts.liveKeys ?? facts.totalKeys);
  const scanner = new KeyScanner(facts.keyPages, (entry) => isChosen(entry.key) && keys.visit(entry));
  await passBytes(await openFile(file, context.signal), 'reading a sample of the keys', context, scanner);
  return keys.sorted();
}

function textOf(checks: readonly Check[], verdict: string): string {
  const rows = checks.map(({ what, expected, found, ok }) => [
    what,
    String(expected),
    String(found),
    ok ? 'ok' : 'DIFFERS',
  ]);
  return `${drawTable(['CHECK', 'EXPECTED', 'FOUND', ''], rows, ['CHECK'])}\n${printable(verdict)}`;
}

function problemOf({ what, expected, found }: Check): string {
  if (what !== PLAN) return `${what} (expected ${expected}, found ${found})`;
  return `${what} cannot be created: ${afterColon(String(found)).replace(/\.$/, '')}`;
}

/** @param unreadable which Secrets the compared keys cannot read, in sentences */
function failureOf(
  name: string,
  failed: readonly Check[],
  ofKeys: readonly Check[],
  unreadable: readonly string[],
  bundle: OpenedBundle | WorkerError | undefined,
): VerificationError {
  if (failed.every((check) => ofKeys.includes(check))) {
    const [problems, hint] =
      bundle instanceof WorkerError ? [[bundle.message, ...unreadable], bundle.hint] : [unreadable, FIND];
    return new VerificationError(`The data restored from ${name} is right, but: ${problems.join(' ')}`, hint);
  }
  return new VerificationError(
    `The data restored from ${name} differs: ${failed.map(problemOf).join('; ')}.`,
    'Run the drill with an older snapshot, take a new one, and check the member from which this one was taken.',
  );
}
