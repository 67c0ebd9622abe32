/**
 * Speed and memory of the snapshot verifier beside a plain sha256 of the same pieces in the same process.
 *
 *   node scripts/bench-verify.ts [--size 512MiB] [--runs 5] [--etcd PATH] [--keep] [FILE ...]
 *
 * Without files it fills a real etcd on loopback, once with Kubernetes-like objects of 1 to 2 KiB and once with values of
 * 100 bytes (overwrites, deletes and a compaction among them), takes their snapshots with etcdctl and measures these. With
 * --keep they stay in the temporary folder, whose name is printed. The result is a Markdown table.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { SnapshotVerifier } from '../src/snapshot/verify.ts';

const PIECE = 32_768;
const MIB = 1024 * 1024;
const OPERATIONS = 100;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    size: { type: 'string', default: '512MiB' },
    runs: { type: 'string', default: '5' },
    etcd: { type: 'string', default: 'etcd' },
    keep: { type: 'boolean', default: false },
  },
});

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

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

async function post(url: string, body: unknown): Promise<void> {
  const response = await fetch(url, { method: 'POST', body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  await response.arrayBuffer();
}

/** Fills a new etcd until its database has about `size` bytes; returns the path of its snapshot. */
async function makeSnapshot(folder: string, { name, valueSize }: Workload, size: number): Promise<string> {
  const client = `http://127.0.0.1:${await freePort()}`;
  const peer = `http://127.0.0.1:${await freePort()}`;
  const data = join(folder, `${name}.etcd`);
  const flags = {
    'data-dir': data,
    'listen-client-urls': client,
    'advertise-client-urls': client,
    'listen-peer-urls': peer,
    'initial-advertise-peer-urls': peer,
    'initial-cluster': `default=${peer}`,
    'quota-backend-bytes': String(8 * 1024 * MIB),
    'log-level': 'error',
  };
  const args = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value]);
  const etcd = spawn(options.etcd, args, { stdio: 'ignore' });
  try {
    for (let tries = 0; ; tries++) {
      if (
        await fetch(`${client}/health`).then(
          (response) => response.ok,
          () => false,
        )
      )
        break;
      if (tries === 100) throw new Error('etcd does not start');
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const db = join(data, 'member/snap/db');
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
      await post(`${client}/v3/kv/txn`, { success });
      if (revision % 400 === 0) await post(`${client}/v3/kv/compaction`, { revision: revision - 200 });
      if (revision % 20 === 0 && statSync(db).size >= size) break;
    }
    const file = join(folder, `${name}.snap`);
    const etcdctl = options.etcd.replace(/etcd$/, 'etcdctl');
    const env = { ...process.env, ETCDCTL_API: '3' };
    execFileSync(etcdctl, ['--endpoints', client, 'snapshot', 'save', file], { env, stdio: 'ignore' });
    return file;
  } finally {
    const gone = new Promise((resolve) => etcd.once('exit', resolve));
    etcd.kill();
    await gone;
    rmSync(data, { recursive: true, force: true });
  }
}

interface Measured {
  readonly file: string;
  readonly bytes: number;
  readonly entries: number;
  readonly verifier: number[];
  readonly sha256: number[];
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
  const bytes = readFileSync(file);
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += PIECE) pieces.push(bytes.subarray(at, at + PIECE));
  const verifier: number[] = [];
  const sha256: number[] = [];
  let entries = 0;
  let factsPeak = 0;
  let degraded = '';
  const rss = process.memoryUsage().rss;
  let rssPeak = rss;
  // The first round warms up and does not count.
  for (let run = 0; run <= runs; run++) {
    const plain = speed(bytes.length, () => {
      const hash = createHash('sha256');
      for (const piece of pieces) hash.update(piece);
      hash.digest();
    });
    const full = speed(bytes.length, () => {
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
    rssPeak = Math.max(rssPeak, process.memoryUsage().rss);
    if (run === 0) continue;
    sha256.push(plain);
    verifier.push(full);
  }
  return { file, bytes: bytes.length, entries, verifier, sha256, factsPeak, rssGrowth: rssPeak - rss, degraded };
}

const median = (numbers: number[]): number => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;
const range = (numbers: number[]): string =>
  `${median(numbers).toFixed(0)} (${Math.min(...numbers).toFixed(0)}–${Math.max(...numbers).toFixed(0)})`;
const mib = (bytes: number): string => (bytes / MIB).toFixed(1);

function row(measured: Measured): string {
  const { file, bytes, entries, verifier, sha256, factsPeak, rssGrowth, degraded } = measured;
  const cells = [
    basename(file, '.snap'),
    mib(bytes),
    String(entries),
    range(verifier),
    range(sha256),
    (median(verifier) / median(sha256)).toFixed(2),
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
console.log(
  '| snapshot | MiB | entries | verifier MB/s | sha256 MB/s | ratio | facts MiB | facts MiB/GiB | RSS growth MiB | given up |',
);
console.log('|---|---|---|---|---|---|---|---|---|---|');
for (const file of files) console.log(row(measure(file, Number(options.runs))));
const [made] = files;
if (positionals.length === 0 && !options.keep && made !== undefined) rmSync(dirname(made), { recursive: true });
