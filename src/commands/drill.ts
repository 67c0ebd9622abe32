import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Check, compareRecord, compareServer } from '../drill/compare-data.ts';
import { DrillDirectory } from '../drill/drill-directory.ts';
import { DrillServer, findServer, makeRootToken } from '../drill/server.ts';
import { StorageError, UsageError, VerificationError } from '../errors.ts';
import { Warnings } from '../log.ts';
import { drillMetrics } from '../monitoring/metrics.ts';
import { assertRoom } from '../disk.ts';
import { fetchVerified } from '../restore/fetch.ts';
import { aloneAs, tokenOf } from '../restore/initial-members.ts';
import { makePlan } from '../restore/plan.ts';
import { assertFit, findTool, runRestore, WAL_SIZE, writtenBy } from '../restore/tool.ts';
import { KeyScanner, type LiveKey, LiveKeys, sampler } from '../snapshot/verify/keys.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import { isFileName, openBlob, openFile, openNewest, passBytes, type SnapshotSource } from '../snapshot/source.ts';
import type { SnapshotFacts } from '../snapshot/verify/verifier.ts';
import { Stopwatch } from '../progress.ts';
import type { DrillNote } from '../store/drill-notes.ts';
import type { BlobStore } from '../store/store.ts';
import { drawTable, humanSeconds, printable } from '../text.ts';
import { type Arguments, type Context, openStore, type Outcome } from './command.ts';
import { assertOfCluster, chosen, clusterIdsFor } from './operand.ts';

/** How many keys are read and compared with their values; HashKV covers all of them at once. */
const SAMPLE = 100;

/**
 * Proves that a snapshot can be restored, by doing it: etcd's own tool restores it into a temporary directory, a real etcd
 * starts from that, and what it then answers is compared with the snapshot and its record. Nothing else is touched, and
 * nothing is left. How long each phase took is what a recovery would take here.
 */
export async function drill(context: Context, { operands: [operand], options }: Arguments): Promise<Outcome> {
  const { searchPath, log, signal } = context;
  const watch = new Stopwatch();
  const findings = new Warnings(log);

  const tool = await findTool(searchPath, signal);
  const program = await findServer(tool, searchPath);
  const store = operand !== undefined && isFileName(operand) ? undefined : await openStore(context);
  const source = await openDrilled(context, store, operand, options);
  const { name, size, record, etag } = source;
  const fit = record && { note: assertFit(tool, writtenBy(record)) };
  const parent = typeof options['temp-dir'] === 'string' ? options['temp-dir'] : tmpdir();
  const place = await DrillDirectory.create(parent, log);
  const dir = place.path;
  let server: DrillServer | undefined;
  try {
    await assertRoom(dir, (etag === undefined ? size : 2 * size) + 2 * WAL_SIZE);
    const { file, facts } = await watch.time('fetch', fetchVerified(source, dir, context));
    const { note } = fit ?? { note: assertFit(tool, writtenBy(facts)) };
    if (note !== undefined) findings.add(note);

    const alone = aloneAs('drill', undefined);
    const { peerURLs: initialAdvertisePeerUrls } = alone[0];
    const member = {
      name: 'drill',
      initialCluster: alone,
      initialClusterToken: tokenOf(facts.sha256),
      initialAdvertisePeerUrls,
    };
    const dataDir = join(dir, 'data');
    const { skipHashCheck } = source;
    const order = { file, skipHashCheck, member, dataDir, walDir: undefined, bump: 0 };
    await watch.time('restore', runRestore(tool, order, signal));
    await source.assertUnchanged();

    const rootToken = facts.authEnabled ? await makeRootToken(dir, facts.authRevision) : undefined;
    server = await watch.time('start', DrillServer.start({ program, dir, dataDir, member, rootToken, signal }));
    const { version: etcd } = await server.connection.status();

    const sample = await sampleOf(context, file, facts);
    const ofServer = await watch.time('compare', compareServer(server.connection, facts, sample));
    const checks =
      record === undefined
        ? ofServer
        : [...compareRecord(record, facts), ...ofServer, planCheck(source, record, facts)];

    const durationsMs = watch.durations();
    const { fetch = 0, restore = 0, start = 0 } = durationsMs;
    const ok = checks.every((check) => check.ok);
    const recoveryMs = fetch + restore + start;
    log.info(ok ? 'the drill succeeded' : 'the drill failed', { drill: name, ok, size, recoveryMs, ...durationsMs });
    if (ok && store !== undefined) await noteDrill(store, { at: new Date(), snapshot: name, recoveryMs }, findings);
    const { sha256, effectiveRevision: revision, liveKeys = null } = facts;
    const verdict = `${name}: ${ok ? `restorable, by etcd ${etcd} in ${humanSeconds(recoveryMs)}` : 'NOT restorable'}`;
    return {
      text: textOf(checks, verdict),
      json: {
        ...{ name, ok, size, sha256, revision, liveKeys, tool: tool.name, etcd },
        ...{ checks, recoveryMs, durationsMs, findings: findings.sentences },
      },
      summary: verdict,
      measured: drillMetrics(recoveryMs, durationsMs),
      ...(ok ? {} : { partialFailure: differs(name, checks) }),
    };
  } finally {
    await server?.stop();
    await place.remove();
  }
}

/** One member comes back without a plan; a cluster does not. */
function planCheck({ name, size }: SnapshotSource, record: SnapshotRecord, file: SnapshotFacts): Check {
  const what = 'a plan for all members';
  try {
    makePlan(name, size, record, { layout: 'kubeadm', file, now: new Date() });
    return { what, expected: 'possible', found: 'possible', ok: true };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return { what, expected: 'possible', found: error.message, ok: false };
  }
}

/** A file, or else the stored snapshot of that name, or the newest. */
async function openDrilled(
  context: Context,
  store: BlobStore | undefined,
  operand = '',
  options: Arguments['options'],
): Promise<SnapshotSource> {
  const ids = clusterIdsFor(context, options);
  if (store !== undefined && operand === '') return chosen(await openNewest(store, ids, context.log), context);
  const skipHashCheck = options['skip-hash-check'] === true;
  const source = await (store === undefined
    ? openFile(operand, context.signal, { skipHashCheck })
    : openBlob(store, operand));
  chosen(source, context);
  assertOfCluster(source, ids);
  return source;
}

/** An identity that may only read can drill all the same. */
async function noteDrill(store: BlobStore, note: DrillNote, findings: Warnings): Promise<void> {
  try {
    await store.noteDrill(note);
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    findings.add(`The drill could not be noted: ${error.message}`, 'Then `doctor` does not know of it.');
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

function differs(name: string, checks: readonly Check[]): VerificationError {
  const wrong = checks.filter(({ ok }) => !ok);
  const told = wrong.map(({ what, expected, found }) => `${what} is ${found} instead of ${expected}`);
  return new VerificationError(
    `What was restored from ${name} differs: ${told.join('; ')}.`,
    'Drill an older snapshot, take a new one, and look at the member that this one is of.',
  );
}
