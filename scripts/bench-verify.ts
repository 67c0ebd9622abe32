/**
 * Speed and memory of the verifier, beside a plain sha256 of the same pieces in the same process and beside etcd's own
 * `snapshot status` (which reads no sha256), interleaved.
 *
 *   node scripts/bench-verify.ts [--size 512MiB] [--runs 5] [--keep] [FILE ...]
 *
 * Without files it fills a real etcd on loopback, once with Kubernetes-like objects of 1 to 2 KiB and once with values of
 * 100 bytes (overwrites, deletes and a compaction among them), takes their snapshots with etcdctl and measures these. With
 * --keep they stay in the temporary folder, whose name is printed. The result is a Markdown table.
 */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { SnapshotVerifier } from '../src/snapshot/verify.ts';
import { EtcdCluster, findEtcd } from '../test/support/etcd.ts';

const PIECE = 32_768;
const MIB = 1024 * 1024;
const OPERATIONS = 100;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    size: { type: 'string', default: '512MiB' },
    runs: { type: 'string', default: '5' },
    keep: { type: 'boolean', default: false },
  },
});

const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');

interface Workload {
  readonly name: string;
  readonly valueSize: () => number;
}

const random = (below: number): number => Math.floor(Math.random() * below);
const WORKLOADS: readonly Workload[] = [
  { name: 'kubernetes', valueSize: () => 1024 + random(1024) },
  { name: 'small', valueSize: () => 100 },
];
const RESOURCES = ['pods', 'configmaps', 'secrets', 'events', 'leases', 'apps.example.com/widgets', 'services/specs'];

/** Fills a new etcd until its database has about `size` bytes; returns the path of its snapshot. */
async function makeSnapshot(folder: string, { name, valueSize }: Workload, size: number): Promise<string> {
  if (tools === undefined) throw new Error('no etcd');
  const dir = join(folder, `${name}.etcd`);
  const cluster = await EtcdCluster.start({ tools, dir, flags: ['--quota-backend-bytes', String(8 * 1024 * MIB)] });
  const db = join(dir, 'm1', 'member', 'snap', 'db');
  let keys = 0;
  for (let revision = 2; ; revision++) {
    const success = Array.from({ length: OPERATIONS }, (_, i) => {
      const isOld = i % 10 >= 8 && keys > 1000;
      // A transaction may name a key once, so each place in it has its own keys.
      const id = isOld ? random(Math.floor((keys - OPERATIONS) / OPERATIONS)) * OPERATIONS + i : keys++;
      const path = `/registry/${RESOURCES[id % RESOURCES.length]}/namespace-${id % 50}/object-${id}-${id * 7919}`;
      const key = Buffer.from(path).toString('base64');
      if (isOld && i % 10 === 9) return { requestDeleteRange: { key } };
      return { requestPut: { key, value: randomBytes(valueSize()).toString('base64') } };
    });
    await cluster.gateway('/v3/kv/txn', { success });
    if (revision % 400 === 0) await cluster.gateway('/v3/kv/compaction', { revision: revision - 200 });
    if (revision % 20 === 0 && statSync(db).size >= size) break;
  }
  const file = join(folder, `${name}.snap`);
  await cluster.etcdctl('snapshot', 'save', file);
  await cluster.stop();
  rmSync(dir, { recursive: true, force: true });
  return file;
}

/** A file in pieces as etcd sends them, held in memory so that no disk is measured. */
function readPieces(file: string): Buffer[] {
  const { size } = statSync(file);
  const handle = openSync(file, 'r');
  const pieces: Buffer[] = [];
  for (let at = 0; at < size; at += PIECE) {
    const piece = Buffer.allocUnsafeSlow(Math.min(PIECE, size - at));
    readSync(handle, piece, 0, piece.length, at);
    pieces.push(piece);
  }
  closeSync(handle);
  return pieces;
}

interface Measured {
  readonly file: string;
  readonly bytes: number;
  readonly entries: number;
  readonly verifier: number[];
  readonly sha256: number[];
  /** etcd's own snapshot status. */
  readonly status: number[];
  readonly factsPeak: number;
  readonly rssGrowth: number;
  readonly degraded: string;
}

function speed(bytes: number, work: () => void): number {
  const start = performance.now();
  work();
  return bytes / 1e3 / (performance.now() - start);
}

function measure(file: string, runs: number): Measured {
  const pieces = readPieces(file);
  const bytes = statSync(file).size;
  const verifier: number[] = [];
  const sha256: number[] = [];
  const status: number[] = [];
  let entries = 0;
  let factsPeak = 0;
  let degraded = '';
  const rss = process.memoryUsage().rss;
  let rssPeak = rss;
  // The first round warms up and does not count.
  for (let run = 0; run <= runs; run++) {
    const plain = speed(bytes, () => {
      const hash = createHash('sha256');
      for (const piece of pieces) hash.update(piece);
      hash.digest();
    });
    const full = speed(bytes, () => {
      const subject = new SnapshotVerifier();
      for (const piece of pieces) subject.push(piece);
      const verdict = subject.finish();
      if (!verdict.ok) throw new Error(JSON.stringify(verdict.faults));
      const { facts } = verdict.snapshot;
      entries = facts.totalKeys;
      factsPeak = subject.peakMemory;
      degraded = facts.liveKeys === undefined ? 'live keys' : facts.resources === undefined ? 'resources' : '';
      if (degraded === '' && facts.hashKV === undefined) degraded = 'HashKV';
    });
    const ofEtcd = speed(bytes, () => {
      execFileSync(tools?.snapshotTool ?? '', ['snapshot', 'status', file], { stdio: 'ignore' });
    });
    rssPeak = Math.max(rssPeak, process.memoryUsage().rss);
    if (run === 0) continue;
    sha256.push(plain);
    verifier.push(full);
    status.push(ofEtcd);
  }
  return { file, bytes, entries, verifier, sha256, status, factsPeak, rssGrowth: rssPeak - rss, degraded };
}

const median = (numbers: number[]): number => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;
const range = (numbers: number[]): string =>
  `${median(numbers).toFixed(0)} (${Math.min(...numbers).toFixed(0)}–${Math.max(...numbers).toFixed(0)})`;
const mib = (bytes: number): string => (bytes / MIB).toFixed(1);

function row(measured: Measured): string {
  const { file, bytes, entries, verifier, sha256, status, factsPeak, rssGrowth, degraded } = measured;
  const cells = [
    basename(file, '.snap'),
    mib(bytes),
    String(entries),
    range(verifier),
    range(sha256),
    range(status),
    (median(verifier) / median(sha256)).toFixed(2),
    (median(verifier) / median(status)).toFixed(2),
    mib(factsPeak),
    ((factsPeak / bytes) * 1024).toFixed(1),
    mib(rssGrowth),
    degraded || 'nothing',
  ];
  return `| ${cells.join(' | ')} |`;
}

const [, amount = '', unit = ''] = /^(\d+)(MiB|GiB)$/.exec(options.size) ?? [];
const size = Number(amount) * (unit === 'GiB' ? 1024 : 1) * MIB;
if (size === 0) throw new Error('--size is written 512MiB or 1GiB');
const files = [...positionals];
if (files.length === 0) {
  const folder = mkdtempSync(join(tmpdir(), 'bench-verify-'));
  for (const workload of WORKLOADS) files.push(await makeSnapshot(folder, workload, size));
  if (options.keep) console.error(`snapshots are in ${folder}`);
}
const columns = ['snapshot', 'MiB', 'entries', 'verifier MB/s', 'sha256 MB/s', 'etcd status MB/s'];
columns.push('verifier / sha256', 'verifier / status', 'facts MiB', 'facts MiB/GiB', 'RSS growth MiB', 'given up');
console.log(`| ${columns.join(' | ')} |\n|${' --- |'.repeat(columns.length)}`);
for (const file of files) console.log(row(measure(file, Number(options.runs))));
const [made] = files;
if (positionals.length === 0 && !options.keep && made !== undefined) rmSync(dirname(made), { recursive: true });
