import type { StartProgress } from '../progress.ts';
import type { KeyScanner } from './keys.ts';
import type { SnapshotSource } from './source.ts';

interface Progress {
  readonly startProgress: StartProgress;
}

/** Reads a snapshot from its beginning to its end into a sink. */
export async function passBytes(
  source: SnapshotSource,
  doing: string,
  { startProgress }: Progress,
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

/** Reads the leaves of a scanner's pages, and where that is quicker nothing else of the snapshot. */
export async function passLeaves(
  source: SnapshotSource,
  doing: string,
  options: Progress,
  scanner: KeyScanner,
): Promise<void> {
  const places = [...scanner.places()];
  const isQuicker = places.length * BYTES_PER_READ < source.size;
  if (source.readPlaces === undefined || !isQuicker) return passBytes(source, doing, options, scanner);
  for await (const leaf of source.readPlaces(places)) scanner.pushLeaf(leaf);
}

/** Bytes of a file that can be read in the time that it takes to read at another place. */
const BYTES_PER_READ = 512 * 1024;
