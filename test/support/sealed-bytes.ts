import { createHeader, type Identity } from '../../src/sealed/age-header.ts';
import { Sealer } from '../../src/sealed/sealer.ts';
import { type Expected, unseal } from '../../src/sealed/unseal.ts';
import { type Encoding, isEncrypted } from '../../src/snapshot/snapshot-name.ts';
import type { Seal } from '../../src/snapshot/record.ts';
import type { Random } from './random.ts';

/** Bytes of a chunk of an encrypted payload, with its tag. */
const CHUNK = 64 * 1024 + 16;

export interface SealedBytes extends Seal {
  readonly stored: Buffer;
  /** Where the first chunk begins; 0 where it is not encrypted. */
  readonly payload: number;
}

/** What an upload gets of a snapshot's file. */
export async function seal(file: Buffer, encoding: Encoding, identities: readonly Identity[]): Promise<SealedBytes> {
  const written: Buffer[] = [];
  const header = isEncrypted(encoding) ? await createHeader(identities.map(({ recipient }) => recipient)) : undefined;
  const fingerprints = identities.map(({ fingerprint }) => fingerprint);
  const sink = { write: async (piece: Uint8Array) => void written.push(Buffer.from(piece)) };
  const sealer = new Sealer(encoding, header && { ...header, fingerprints }, sink);
  for (let at = 0; at < file.length; at += 30_000) await sealer.write(file.subarray(at, at + 30_000));
  const result = await sealer.finish();
  sealer.close();
  return { ...result, stored: Buffer.concat(written), payload: header === undefined ? 0 : header.bytes.length + 16 };
}

type Wanted = Pick<Expected, 'encoding' | 'identities'> & Partial<Expected>;

/** The snapshot's file, from the bytes of its blob. @throws what `unseal` throws */
export async function open(
  stored: Buffer,
  { encoding, identities, size, storedSha256 }: Wanted,
  pieceSize = 9001,
): Promise<Buffer> {
  const pieces = async function* (): AsyncGenerator<Buffer, void, void> {
    for (let at = 0; at < stored.length; at += pieceSize) yield stored.subarray(at, at + pieceSize);
  };
  const opened: Buffer[] = [];
  const expected = { name: 'x', encoding, size, storedSha256, identities };
  for await (const piece of unseal(pieces(), expected)) opened.push(Buffer.from(piece));
  return Buffer.concat(opened);
}

export interface Mutation {
  readonly what: string;
  readonly bytes: Buffer;
}

/**
 * Each byte of the header changed; bytes around the edges of all chunks changed; cuts there; chunks swapped, removed and
 * repeated; bytes at the end. Then `more` changes anywhere.
 */
export function* mutationsOf({ stored, payload }: SealedBytes, random: Random, more: number): Generator<Mutation> {
  const starts = Array.from({ length: Math.ceil((stored.length - payload) / CHUNK) }, (_, i) => payload + i * CHUNK);
  const edges = [...starts, stored.length]
    .flatMap((start) => [-17, -16, -15, -2, -1, 0, 1, 2].map((offset) => start + offset))
    .filter((at) => at >= payload && at < stored.length);
  // The frame of zstd has its header here, where nothing is encrypted.
  const header = [...Array(Math.max(payload, 32)).keys()];
  for (const at of [...header, ...edges]) yield flipped(stored, at, random);
  for (const at of [0, 1, 21, 22, payload - 17, payload - 16, payload - 1, ...edges].filter((each) => each >= 0)) {
    yield { what: `cut at ${at}`, bytes: stored.subarray(0, at) };
  }
  for (const start of starts) {
    const [before, one] = [stored.subarray(0, start), stored.subarray(start, start + CHUNK)];
    const [two, after] = [stored.subarray(start + CHUNK, start + 2 * CHUNK), stored.subarray(start + 2 * CHUNK)];
    if (two.length > 0) yield { what: `chunks swapped at ${start}`, bytes: Buffer.concat([before, two, one, after]) };
    yield { what: `no chunk at ${start}`, bytes: Buffer.concat([before, two, after]) };
    yield { what: `a chunk twice at ${start}`, bytes: Buffer.concat([before, one, one, two, after]) };
  }
  for (const length of [1, 15, 16, 17, 1000, CHUNK, 2 * CHUNK]) {
    yield { what: `${length} bytes added`, bytes: Buffer.concat([stored, random.bytes(length)]) };
  }
  yield { what: 'all of it twice', bytes: Buffer.concat([stored, stored]) };
  for (let count = 0; count < more; count++) {
    const at = random.below(stored.length);
    const length = 1 + random.below(100);
    const [before, after] = [stored.subarray(0, at), stored.subarray(at + length)];
    switch (random.below(6)) {
      case 0:
        yield { what: `cut at ${at}`, bytes: before };
        break;
      case 1:
        yield { what: `${length} bytes less at ${at}`, bytes: Buffer.concat([before, after]) };
        break;
      case 2:
        yield { what: `bytes added at ${at}`, bytes: Buffer.concat([before, random.bytes(1 + length), after]) };
        break;
      default:
        yield flipped(stored, at, random);
    }
  }
}

function flipped(stored: Buffer, at: number, random: Random): Mutation {
  const bytes = Buffer.from(stored);
  bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
  return { what: `byte ${at} changed`, bytes };
}
