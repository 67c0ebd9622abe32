import type { StartProgress } from '../progress.ts';
import type { Sealing } from '../sealed/sealing.ts';
import type { Seal } from '../snapshot/record.ts';
import type { Verdict } from '../snapshot/verify/verdict.ts';
import { SnapshotVerifier } from '../snapshot/verify/verifier.ts';
import type { StagedUpload } from '../store/upload.ts';

export interface Staged {
  readonly verdict: Verdict;
  /** Of the staged bytes; undefined where they are the snapshot's file itself. */
  readonly seal: Seal | undefined;
}

interface Options {
  /** Undefined where the blob is the snapshot's file itself. */
  readonly sealing: Sealing | undefined;
  /** Bytes of memory for the verifier. */
  readonly memoryBudget: number;
  readonly progress: ReturnType<StartProgress>;
}

/** verifier → (sealer →) upload: the way of every snapshot that is stored. Throws what reading `bytes` throws, and StorageError. */
export async function verifyAndStage(
  bytes: AsyncIterable<Uint8Array>,
  upload: StagedUpload,
  { sealing, memoryBudget, progress }: Options,
): Promise<Staged> {
  const verifier = new SnapshotVerifier({ memoryBudget });
  const sealer = await sealing?.start(upload);
  try {
    for await (const piece of bytes) {
      verifier.push(piece);
      await (sealer ?? upload).write(piece);
      progress.advance(piece.length);
    }
    const seal = await sealer?.finish();
    return { verdict: verifier.finish(), seal };
  } finally {
    progress.end();
    sealer?.close();
  }
}
