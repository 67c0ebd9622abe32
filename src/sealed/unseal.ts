import { createHash, type Hash } from 'node:crypto';
import { createZstdDecompress } from 'node:zlib';
import { decompress, DecompressionError } from '../decompress.ts';
import { UsageError, VerificationError } from '../errors.ts';
import { type Encoding, isBundleName, isCompressed, isEncrypted } from '../snapshot/snapshot-name.ts';
import { printable } from '../text.ts';
import type { Identity } from './age-header.ts';
import { ByteReader, decryptPayload, DecryptionError } from './age-payload.ts';

/** Bytes. A post-quantum recipient takes 1.6 KiB. */
const MAX_HEADER = 64 * 1024;

const HINT = 'Use another snapshot. To see them, run: etcd-snapshot list';

export interface Expected {
  /** Name of the blob or file, for messages. */
  readonly name: string;
  readonly encoding: Encoding;
  /** Bytes of the snapshot's file, a limit: a few bytes can be unpacked to any number. Undefined to count them. */
  readonly size: number | undefined;
  /** Of the sealed bytes; undefined without a record. */
  readonly storedSha256: string | undefined;
  /** For an encrypted snapshot. */
  readonly identities: readonly Identity[];
}

/**
 * The bytes of a snapshot's file, from the bytes of its sealed blob.
 * @param stored a piece is used until the next one is taken
 * @throws VerificationError when they are not what was sealed; UsageError when it is encrypted for other identities; what
 *   reading `stored` throws
 */
export async function* unseal(
  stored: AsyncIterable<Uint8Array>,
  { name, encoding, size, storedSha256, identities }: Expected,
): AsyncGenerator<Buffer, void, void> {
  const storedHash = createHash('sha256');
  let bytes: AsyncIterable<Buffer> = copied(stored, storedHash);
  if (isEncrypted(encoding)) bytes = decrypted(bytes, name, identities, storedSha256 !== undefined);
  if (isCompressed(encoding)) bytes = decompress(bytes, createZstdDecompress);
  let unpacked = 0;
  try {
    for await (const piece of bytes) {
      unpacked += piece.length;
      if (size !== undefined && unpacked > size) throw invalid(name, `unpacked, it is larger than ${size} bytes`);
      yield piece;
    }
  } catch (error) {
    if (error instanceof DecryptionError) throw invalid(name, `it cannot be decrypted: ${error.message}`, error);
    if (error instanceof DecompressionError) throw invalid(name, `it cannot be decompressed: ${error.message}`, error);
    throw error;
  }
  if (size !== undefined && unpacked < size)
    throw invalid(name, `unpacked, it has ${unpacked} bytes instead of ${size}`);
  if (storedSha256 === undefined || storedHash.digest('hex') === storedSha256) return;
  throw invalid(name, 'the sha256 of its blob does not match its record');
}

/** What follows keeps a piece for longer than its memory is unchanged. */
async function* copied(stored: AsyncIterable<Uint8Array>, hash: Hash): AsyncGenerator<Buffer, void, void> {
  for await (const piece of stored) {
    hash.update(piece);
    yield Buffer.from(piece);
  }
}

/** @param hasRecord its record, which is compared before, says that the identities open it */
async function* decrypted(
  stored: AsyncIterable<Uint8Array>,
  name: string,
  identities: readonly Identity[],
  hasRecord: boolean,
): AsyncGenerator<Buffer, void, void> {
  const { openHeader } = await import('./age-header.ts');
  const bytes = new ByteReader(stored);
  try {
    const header = await bytes.takeThrough(/^--- .*\n/m, MAX_HEADER);
    if (header === undefined) throw new DecryptionError('it has no header of age');
    const fileKey = await openHeader(header, identities).catch((error: unknown) => {
      throw new DecryptionError('its header was changed', { cause: error });
    });
    if (fileKey === undefined) throw hasRecord ? new DecryptionError('its header was changed') : noIdentity(name);
    yield* decryptPayload(bytes, fileKey);
  } finally {
    await bytes.close();
  }
}

function noIdentity(name: string): UsageError {
  return new UsageError(
    `No identity opens ${printable(name)}: it is encrypted for others, or its header was changed.`,
    'Give the identity file of one of its recipients with --identity.',
  );
}

function invalid(name: string, problem: string, cause?: unknown): VerificationError {
  const what = isBundleName(name) ? 'bundle' : 'snapshot';
  return new VerificationError(`${printable(name)} is not a valid ${what}: ${problem}.`, HINT, cause);
}
