import { VerificationError } from '../errors.ts';
import type { StartProgress } from '../progress.ts';
import { printable } from '../text.ts';
import type { KeyScanner } from './keys.ts';
import type { SnapshotSource } from './source.ts';

interface Progress {
  readonly startProgress: StartProgress;
}

interface Sink {
  push(piece: Uint8Array): void;
}

/** Reads a snapshot from its beginning to its end into a sink that finds out whether it is valid. @returns how many bytes it has */
export async function passUnverified(
  source: SnapshotSource,
  doing: string,
  { startProgress }: Progress,
  sink: Sink,
): Promise<number> {
  const progress = startProgress(doing, source.size);
  let passed = 0;
  try {
    for await (const piece of source.read()) {
      sink.push(piece);
      passed += piece.length;
      progress.advance(piece.length);
    }
    return passed;
  } finally {
    progress.end();
  }
}

/**
 * Reads a verified snapshot again, from its beginning to its end.
 * @throws UnsafeError when its file was written to since it was opened; VerificationError when it has another size
 */
export async function passBytes(source: SnapshotSource, doing: string, options: Progress, sink: Sink): Promise<void> {
  const passed = await sameAsVerified(source, passUnverified(source, doing, options, sink));
  if (passed === source.size) return;
  throw new VerificationError(
    `${printable(source.name)} has ${passed} bytes; it had ${source.size} when it was verified.`,
    'Run the command again.',
  );
}

/** Reads the leaves of a scanner's pages, and where that is quicker nothing else of the verified snapshot. @throws what `passBytes` throws */
export async function passLeaves(
  source: SnapshotSource,
  doing: string,
  options: Progress,
  scanner: KeyScanner,
): Promise<void> {
  const places = [...scanner.places()];
  const isQuicker = places.length * BYTES_PER_READ < source.size;
  if (source.readPlaces === undefined || !isQuicker) return passBytes(source, doing, options, scanner);
  await sameAsVerified(source, passPlaces(source.readPlaces(places), scanner));
}

async function passPlaces(leaves: AsyncIterable<Buffer>, scanner: KeyScanner): Promise<void> {
  for await (const leaf of leaves) scanner.pushLeaf(leaf);
}

/** What reading returns. A file that has changed explains every error: the scanner relies on what the verifier found. */
async function sameAsVerified<T>(source: SnapshotSource, reading: Promise<T>): Promise<T> {
  const [result] = await Promise.allSettled([reading]);
  await source.assertUnchanged();
  if (result.status === 'rejected') throw result.reason;
  return result.value;
}

/** Bytes of a file that can be read in the time that it takes to read at another place. */
const BYTES_PER_READ = 512 * 1024;
