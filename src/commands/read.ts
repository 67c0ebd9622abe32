import { SnapshotVerifier, type Verdict } from '../snapshot/verify.ts';
import { isFileName, openBlob, openFile, type SnapshotSource } from '../source.ts';
import { type Context, openStore } from './command.ts';

/** The file or the stored snapshot that an operand means. @throws WorkerError (no such snapshot), StorageError */
export async function openSource(context: Context, operand: string): Promise<SnapshotSource> {
  return isFileName(operand) ? openFile(operand, context.signal) : openBlob(await openStore(context), operand);
}

/** Verifies all of a snapshot. */
export async function readThrough(context: Context, source: SnapshotSource): Promise<Verdict> {
  const verifier = new SnapshotVerifier({ memoryBudget: context.memoryBudget });
  await passBytes(context, source, `verifying ${source.name}`, verifier);
  return verifier.finish();
}

/** Reads a snapshot from its beginning to its end into a sink. */
export async function passBytes(
  { startProgress }: Context,
  source: SnapshotSource,
  doing: string,
  sink: { push(piece: Uint8Array): void },
): Promise<void> {
  const progress = startProgress(doing, source.size);
  try {
    for await (const piece of source.read()) {
      sink.push(piece);
      progress.advance(piece.length);
    }
  } finally {
    progress.end();
  }
}
