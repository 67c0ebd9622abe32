import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { SnapshotVerifier } from '../../src/snapshot/verify/verifier.ts';
import { type Bench, nameOfSize, roomIn, say } from '../bench.ts';
import { markdown, MB, ratios, spread } from '../figures.ts';
import { Source } from '../source.ts';
import type { Report } from '../verdicts.ts';

const SIZE = 500 * MB;
/** As etcd sends them. */
const PIECE = 32_768;

/** Bytes of the values, which decide how many keys a database of a size has. */
const WORKLOADS: Readonly<Record<string, (() => number) | undefined>> = {
  'Kubernetes-like objects': undefined,
  'values of 100 bytes': () => 100,
};

/**
 * Speed and memory of the verifier on its own, in MB/s, beside a plain sha256 of the same pieces in the same process and beside
 * etcd's own `snapshot status`, which checks no sha256.
 */
export async function verifierSection({ tools, tls, memory, rounds }: Bench): Promise<Report> {
  const rows: string[][] = [];
  for (const [name, valueSize] of Object.entries(WORKLOADS)) {
    say(`filling etcd with ${nameOfSize(SIZE)}: ${name}`);
    const room = roomIn(memory, 'verifier');
    const options = { tools, tls, dir: join(room, 'etcd'), size: SIZE };
    const source = await Source.start(valueSize === undefined ? options : { ...options, valueSize });
    const file = join(room, 'snapshot.db');
    await source.saveTo(file);
    await source.stop();
    rows.push([name, ...compare(file, tools.snapshotTool, rounds)]);
  }
  const columns = ['MB', 'entries', 'verifier', 'sha256', 'status', 'verifier / sha256', 'verifier / status'];
  columns.push('facts MiB per GiB', 'given up');
  return { tables: [markdown('The verifier on its own, MB/s', ['', ...columns], rows)], targets: [] };
}

function compare(file: string, tool: string, rounds: number): string[] {
  const pieces = readPieces(file);
  const { size } = statSync(file);
  const [verifier, sha256, status]: [number[], number[], number[]] = [[], [], []];
  let [entries, peak, givenUp] = [0, 0, ''];
  // The first round warms up and does not count.
  for (let round = 0; round <= rounds; round++) {
    const plain = speed(size, () => {
      const hash = createHash('sha256');
      for (const piece of pieces) hash.update(piece);
      hash.digest();
    });
    const full = speed(size, () => {
      const subject = new SnapshotVerifier();
      for (const piece of pieces) subject.push(piece);
      const verdict = subject.finish();
      if (!verdict.ok) throw new Error(JSON.stringify(verdict.problems));
      const { liveKeys, hashKV, totalKeys } = verdict.snapshot.facts;
      [entries, peak] = [totalKeys, subject.peakMemory];
      const missing = Object.entries({ 'live keys': liveKeys, HashKV: hashKV });
      givenUp = missing.flatMap(([name, fact]) => (fact === undefined ? [name] : [])).join(', ');
    });
    const ofEtcd = speed(size, () => execFileSync(tool, ['snapshot', 'status', file], { stdio: 'ignore' }));
    if (round === 0) continue;
    verifier.push(full);
    sha256.push(plain);
    status.push(ofEtcd);
  }
  return [
    (size / MB).toFixed(0),
    String(entries),
    ...[verifier, sha256, status].map((speeds) => spread(speeds, 0)),
    ...[sha256, status].map((speeds) => spread(ratios(verifier, speeds))),
    ((peak / size) * 1024).toFixed(1),
    givenUp || 'nothing',
  ];
}

/** A file in pieces, held in memory so that no disk is measured. */
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

/** MB/s. */
function speed(bytes: number, work: () => void): number {
  const start = performance.now();
  work();
  return bytes / 1e3 / (performance.now() - start);
}
