import { openSync, readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { SnapshotVerifier } from '../snapshot/verify/verifier.ts';
import { type FileSize, judgementOf, type WorkerMessage } from './fetch.ts';

// The program of the thread that verifies a file while it grows.

const { path, memoryBudget } = workerData as { path: string; memoryBudget: number };
const file = openSync(path, 'r');
const piece = Buffer.allocUnsafe(1024 * 1024);
const verifier = new SnapshotVerifier({ memoryBudget });
let at = 0;

parentPort?.on('message', ({ size, isWhole }: FileSize) => {
  for (let read = -1; at < size && read !== 0; at += read) {
    read = readSync(file, piece, 0, Math.min(piece.length, size - at), at);
    verifier.push(piece.subarray(0, read));
    tell({ read });
  }
  if (isWhole) tell({ judgement: judgementOf(verifier.finish()) });
});

function tell(told: WorkerMessage): void {
  parentPort?.postMessage(told);
}
