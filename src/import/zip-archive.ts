import { crc32, createInflateRaw } from 'node:zlib';
import { decompress } from '../decompress.ts';
import { openRegular } from '../files.ts';

/** The layout of a zip archive is that of APPNOTE 6.3.10, sections 4.3 and 4.5.3. All integers are little-endian. */
const LOCAL = { signature: 0x04034b50, size: 30 };
const ENTRY = { signature: 0x02014b50, size: 46 };
const END = { signature: 0x06054b50, size: 22 };
const END_64 = { signature: 0x06064b50, size: 56 };
const LOCATOR_64 = { signature: 0x07064b50, size: 20 };

/** In place of a number that does not fit, which is in the part for zip64. */
const IN_64 = 0xffff_ffff;
const COUNT_IN_64 = 0xffff;

const MAX_COMMENT = 0xffff;
/** The directory of one member: its entry with a name, extra fields and a comment of at most 64 KiB each. */
const MAX_DIRECTORY = ENTRY.size + 3 * 0xffff;

const ENCRYPTED = 0x01 | 0x40 | 0x2000;
const STORED = 0;
const DEFLATED = 8;

/** What is wrong with an archive, in words that follow "it is not a valid snapshot:". */
export class ZipError extends Error {}

/**
 * The bytes of the only file in an archive, as k3s and RKE2 write it. Where parts of the archive contradict each other, nothing is
 * guessed.
 * @param read the bytes of the archive from this one on
 * @throws ZipError; DecompressionError; what reading the file throws
 */
export async function* readZip(
  path: string,
  read: (from: number) => AsyncIterable<Buffer>,
): AsyncGenerator<Buffer, void, void> {
  const { method, start, packedSize, size, checksum } = await findMember(path);
  const packed = firstBytes(read(start), packedSize);
  let passed = 0;
  let found = 0;
  for await (const piece of method === STORED ? packed : decompress(packed, createInflateRaw)) {
    passed += piece.length;
    if (passed > size) throw new ZipError(`its member is larger than the ${size} bytes of its directory`);
    found = crc32(piece, found);
    yield piece;
  }
  if (passed < size) throw new ZipError(`its member has ${passed} bytes instead of ${size}`);
  if (found !== checksum) throw new ZipError('the CRC-32 of its member is wrong');
}

interface Member extends Entry {
  /** Offset of its bytes in the archive. */
  readonly start: number;
}

async function findMember(path: string): Promise<Member> {
  const { file, stats } = await openRegular(path);
  await using archive = file;
  const at: ReadAt = async (position, length) => {
    const bytes = Buffer.alloc(length);
    const isInside = position >= 0 && position + length <= stats.size;
    const { bytesRead } = isInside ? await archive.read(bytes, 0, length, position) : { bytesRead: 0 };
    if (bytesRead === length) return bytes;
    throw new ZipError('a part of the archive is missing');
  };
  const directory = await findDirectory(stats.size, at);
  if (directory.count !== 1) throw new ZipError(`the archive has ${directory.count} members instead of one`);
  if (directory.size > MAX_DIRECTORY) throw new ZipError('its directory is too large for one member');
  const entry = readEntry(await at(directory.offset, directory.size));
  const local = await at(entry.offset, LOCAL.size);
  const isSame = local.readUInt32LE(0) === LOCAL.signature && local.readUInt16LE(8) === entry.method;
  const start = entry.offset + LOCAL.size + local.readUInt16LE(26) + local.readUInt16LE(28);
  if (isSame && start + entry.packedSize <= directory.offset) return { ...entry, start };
  throw new ZipError('its member is not where its directory says');
}

type ReadAt = (position: number, length: number) => Promise<Buffer>;

interface Directory {
  /** Members. */
  readonly count: number;
  /** Bytes. */
  readonly size: number;
  readonly offset: number;
}

/** Where the central directory is, from the record at the very end of the archive. */
async function findDirectory(size: number, at: ReadAt): Promise<Directory> {
  const from = Math.max(0, size - END.size - MAX_COMMENT);
  const tail = await at(from, size - from);
  let end = tail.length - END.size;
  const isEnd = (): boolean =>
    tail.readUInt32LE(end) === END.signature && tail.readUInt16LE(end + 20) === tail.length - end - END.size;
  while (end >= 0 && !isEnd()) end--;
  if (end < 0) throw new ZipError('it has no end, like an unfinished download or an archive that is being written');
  const found = {
    count: tail.readUInt16LE(end + 10),
    size: tail.readUInt32LE(end + 12),
    offset: tail.readUInt32LE(end + 16),
  };
  if (tail.readUInt16LE(end + 4) !== 0) throw new ZipError('it is one part of several');
  const endAt = from + end;
  const is64 = found.count === COUNT_IN_64 || found.size === IN_64 || found.offset === IN_64;
  if (!is64) return within(found, endAt);
  const locator = await at(endAt - LOCATOR_64.size, LOCATOR_64.size);
  if (locator.readUInt32LE(0) !== LOCATOR_64.signature) throw new ZipError('its part for zip64 is missing');
  const end64At = toNumber(locator.readBigUInt64LE(8));
  const end64 = await at(end64At, END_64.size);
  if (end64.readUInt32LE(0) !== END_64.signature) throw new ZipError('its part for zip64 is missing');
  const numbers = [32, 40, 48].map((offset) => toNumber(end64.readBigUInt64LE(offset)));
  return within({ count: numbers[0] ?? 0, size: numbers[1] ?? 0, offset: numbers[2] ?? 0 }, end64At);
}

function within(directory: Directory, end: number): Directory {
  if (directory.offset + directory.size <= end) return directory;
  throw new ZipError('its directory is not where its end says');
}

interface Entry {
  readonly method: number;
  readonly checksum: number;
  /** Bytes, as in the archive and unpacked. */
  readonly packedSize: number;
  readonly size: number;
  /** Of its local header. */
  readonly offset: number;
}

function readEntry(bytes: Buffer): Entry {
  if (bytes.length < ENTRY.size || bytes.readUInt32LE(0) !== ENTRY.signature) {
    throw new ZipError('its directory is damaged');
  }
  const method = bytes.readUInt16LE(10);
  if ((bytes.readUInt16LE(8) & ENCRYPTED) !== 0) throw new ZipError('its member is encrypted');
  if (method !== STORED && method !== DEFLATED) throw new ZipError(`its member has the unknown method ${method}`);
  const [name = 0, extra = 0, comment = 0] = [28, 30, 32].map((at) => bytes.readUInt16LE(at));
  if (bytes.length !== ENTRY.size + name + extra + comment) throw new ZipError('its directory is damaged');
  const in64 = numbersOf64(bytes.subarray(ENTRY.size + name, ENTRY.size + name + extra));
  const read = (at: number): number => {
    const value = bytes.readUInt32LE(at);
    if (value !== IN_64) return value;
    const large = in64.shift();
    if (large === undefined) throw new ZipError('its part for zip64 is missing');
    return toNumber(large);
  };
  // In the order of the part for zip64.
  const size = read(24);
  const packedSize = read(20);
  const offset = read(42);
  if (method === STORED && packedSize !== size) throw new ZipError('its member contradicts its directory');
  return { method, checksum: bytes.readUInt32LE(16), packedSize, size, offset };
}

/** The numbers in the extra field of zip64 (id 1). */
function numbersOf64(extra: Buffer): bigint[] {
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) !== 1) continue;
    const field = extra.subarray(at + 4, at + 4 + extra.readUInt16LE(at + 2));
    return Array.from({ length: Math.floor(field.length / 8) }, (_, index) => field.readBigUInt64LE(8 * index));
  }
  return [];
}

function toNumber(value: bigint): number {
  if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
  throw new ZipError('its part for zip64 is damaged');
}

async function* firstBytes(pieces: AsyncIterable<Buffer>, count: number): AsyncGenerator<Buffer, void, void> {
  let left = count;
  for await (const piece of pieces) {
    yield piece.subarray(0, left);
    left -= Math.min(left, piece.length);
    if (left === 0) return;
  }
}
