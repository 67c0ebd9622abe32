import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { Interrupted } from '../../src/errors.ts';
import { createLog } from '../../src/log.ts';
import { noProgress } from '../../src/progress.ts';
import { fetchAsStored, fetchVerified } from '../../src/restore/fetch-and-verify.ts';
import type { SnapshotRecord } from '../../src/snapshot/record.ts';
import { openFileOrSealed, type SnapshotSource } from '../../src/snapshot/source.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { temporaryFolder } from '../support/process.ts';
import { snapshot, vectors } from '../support/vectors.ts';
import { factsOf, liveKeysOf, verify } from '../support/verify.ts';

const home = temporaryFolder('fetch');
const PART = 'snapshot-0x1.db';

/** A stored snapshot of these bytes, and from where on it was read. */
function stored(bytes: Buffer, record?: Partial<SnapshotRecord>): { source: SnapshotSource; reads: number[] } {
  const reads: number[] = [];
  const source: SnapshotSource = {
    ...{
      name: 'stored',
      size: bytes.length,
      stored: undefined,
      etag: '"0x1"',
      skipHashCheck: false,
      readPlaces: undefined,
    },
    record: record as SnapshotRecord | undefined,
    takenAt: new Date(0),
    async *read(from = 0) {
      reads.push(from);
      for (let at = from; at < bytes.length; at += 7777) yield bytes.subarray(at, at + 7777);
    },
    assertUnchanged: async () => {},
  };
  return { source, reads };
}

function fetchTo(dir: string, source: SnapshotSource, signal = new AbortController().signal) {
  const progress: [string, number][] = [];
  const startProgress = (doing: string) => {
    const line: [string, number] = [doing, 0];
    progress.push(line);
    return { advance: (bytes: number) => void (line[1] += bytes), end: () => {} };
  };
  const log = createLog('json', 'error', () => {});
  const fetched = fetchVerified(source, dir, { memoryBudget: 64 * 1024 * 1024, startProgress, log, signal });
  return { fetched, progress };
}

const directory = (): string => mkdtempSync(join(home, 'work-'));

t.test('a download is verified from the disk, with the facts of the verifier', async (t) => {
  for (const vector of vectors().filter(({ serverVersion }) => serverVersion.startsWith('3.6.'))) {
    const bytes = snapshot(vector);
    const dir = directory();
    const { fetched, progress } = fetchTo(dir, stored(bytes).source);
    const { file, facts } = await fetched;
    t.equal(file, join(dir, PART));
    t.ok(readFileSync(file).equals(bytes));
    t.strictSame({ ...facts, keyPages: undefined }, { ...factsOf(verify(bytes)), keyPages: undefined }, vector.name);
    t.strictSame(liveKeysOf(bytes, facts), liveKeysOf(bytes, factsOf(verify(bytes))));
    t.strictSame(progress, [
      ['downloading stored', bytes.length],
      ['verifying stored', bytes.length],
    ]);
  }
});

t.test('an interrupted download is resumed, and downloaded again when it is corrupt', async (t) => {
  const resumed = directory();
  writeFileSync(join(resumed, PART), SNAPSHOT.subarray(0, 5000));
  writeFileSync(join(resumed, 'snapshot-0x0.db'), 'of another snapshot');
  const { source, reads } = stored(SNAPSHOT);
  await fetchTo(resumed, source).fetched;
  t.strictSame(reads, [5000]);
  t.strictSame(readdirSync(resumed), [PART]);

  const corrupt = directory();
  writeFileSync(join(corrupt, PART), Buffer.alloc(5000));
  const again = stored(SNAPSHOT);
  const { file } = await fetchTo(corrupt, again.source).fetched;
  t.strictSame(again.reads, [5000, 0]);
  t.ok(readFileSync(file).equals(SNAPSHOT));

  const longer = directory();
  writeFileSync(join(longer, PART), Buffer.concat([SNAPSHOT, Buffer.alloc(512)]));
  const whole = stored(SNAPSHOT);
  t.ok(readFileSync((await fetchTo(longer, whole.source).fetched).file).equals(SNAPSHOT));
  t.strictSame(whole.reads, [0]);
});

t.test('nothing is kept of what cannot be verified', async (t) => {
  const dir = directory();
  const short = stored(SNAPSHOT.subarray(0, -100));
  await t.rejects(fetchTo(dir, short.source).fetched, { name: 'VerificationError', message: /it ends after/ });
  const other = stored(SNAPSHOT, { sha256: 'other' });
  await t.rejects(fetchTo(dir, other.source).fetched, { name: 'VerificationError', message: /sha256 does not match/ });
  t.strictSame(readdirSync(dir), []);

  const controller = new AbortController();
  controller.abort(new Interrupted('SIGTERM'));
  const { fetched } = fetchTo(dir, stored(SNAPSHOT).source, controller.signal);
  await t.rejects(fetched, controller.signal.reason as Error);
  t.ok(readFileSync(join(dir, PART)).equals(SNAPSHOT), 'the download of an interrupted run is kept');
});

t.test('a sealed snapshot is opened from its beginning, and what an earlier file left is not used', async (t) => {
  const file = join(home, 'sealed.db.zst');
  writeFileSync(file, zstdCompressSync(SNAPSHOT));
  const { signal } = new AbortController();
  const source = await openFileOrSealed(file, signal, async () => undefined);
  const { stored: form } = source;
  if (form === undefined) throw new Error('it is not recognized');
  t.match(source, { size: SNAPSHOT.length, stored: { encoding: 'zstd' } });
  const dir = directory();
  writeFileSync(join(dir, 'snapshot-file.db'), 'of another file');
  t.ok(readFileSync((await fetchTo(dir, source).fetched).file).equals(SNAPSHOT));

  const resumed = directory();
  writeFileSync(join(resumed, PART), SNAPSHOT.subarray(0, 5000));
  const blob = { ...source, etag: '"0x1"' };
  t.ok(readFileSync((await fetchTo(resumed, blob).fetched).file).equals(SNAPSHOT), 'resumed');
  const { file: asStored } = await fetchAsStored(blob, form, resumed, {
    ...{ memoryBudget: 64 * 1024 * 1024, startProgress: noProgress, signal },
    log: createLog('json', 'error', () => {}),
  });
  t.ok(readFileSync(asStored).equals(readFileSync(file)), 'as it is stored, although the opened one was there');
});
