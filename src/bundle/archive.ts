import { Header, Parser, Pax, type ReadEntry } from 'tar';
import { messageOf, VerificationError } from '../errors.ts';
import { recognize } from '../snapshot/file-kind.ts';
import { excerpt, printable } from '../text.ts';

/* The tar archive in a bundle. Anybody who knows the recipients can make one, so everything in it is checked before it is used. */

/** Bytes of all files. Keys and manifests have some hundred KiB. */
export const MAX_CONTENT = 16 * 2 ** 20;
export const MAX_ENTRIES = 10_000;

/** Bytes of a path, and names in it. */
const MAX_PATH = 1024;
const MAX_DEPTH = 64;

/** Bytes of an archive: each entry can have a PAX header. */
const MAX_ARCHIVE = MAX_CONTENT + MAX_ENTRIES * 4096;

const BLOCK = 512;

/** A file, a directory or a symbolic link. */
export interface ArchiveEntry {
  /** Without a leading slash. */
  readonly path: string;
  readonly type: 'File' | 'Directory' | 'SymbolicLink';
  /** Permission bits. */
  readonly mode: number;
  readonly mtime: Date;
  /** Of a file; empty for others. */
  readonly content: Buffer;
  /** Of a link, relative to its directory: `..` only at the beginning. */
  readonly target: string | undefined;
}

/** The bytes of an archive, with PAX headers where a name needs them. */
export function* pack(entries: readonly ArchiveEntry[]): Generator<Buffer, void, void> {
  for (const { path, type, mode, mtime, content, target } of entries) {
    const fields = {
      ...{ path: type === 'Directory' ? `${path}/` : path, type, mode, mtime, uid: 0, gid: 0 },
      ...{ size: content.length, ...(target !== undefined && { linkpath: target }) },
    };
    const block = Buffer.alloc(BLOCK);
    if (new Header(fields).encode(block, 0)) yield new Pax(fields).encode();
    yield block;
    if (content.length === 0) continue;
    yield content;
    yield Buffer.alloc(-content.length & (BLOCK - 1));
  }
  yield Buffer.alloc(2 * BLOCK);
}

/**
 * The content of an archive, all of it checked.
 * @param name of the bundle, for messages
 * @throws VerificationError when it is damaged, too large, or has an entry that a bundle never has; what reading throws
 */
export async function unpack(name: string, bytes: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<ArchiveEntry[]> {
  const refuse = (problem: string): never => {
    throw new VerificationError(
      `${printable(name)} is not a valid bundle: ${problem}.`,
      'Nothing was written. Use the bundle of another snapshot, and find out who wrote this one.',
    );
  };
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of bytes) {
    size += piece.length;
    if (size > MAX_ARCHIVE) refuse(`unpacked, it is larger than ${MAX_ARCHIVE} bytes`);
    pieces.push(piece);
  }
  const archive = Buffer.concat(pieces);
  // The parser would unpack a compressed one, of any size.
  if (recognize(archive)?.name !== 'a tar archive') refuse('it is not a tar archive');
  const { entries, problem } = parse(archive);
  const found = problem ?? problemIn(entries);
  if (found !== undefined) refuse(found);
  return entries;
}

function parse(archive: Buffer): { entries: ArchiveEntry[]; problem: string | undefined } {
  const entries: ArchiveEntry[] = [];
  const problems: string[] = [];
  const parser = new Parser({ strict: true });
  parser.on('error', (error: unknown) => problems.push(`its archive is damaged: ${messageOf(error)}`));
  parser.on('ignoredEntry', ({ path }: ReadEntry) => problems.push(`${excerpt(path)} is of an unknown type`));
  parser.on('entry', (entry: ReadEntry) => {
    const pieces: Buffer[] = [];
    entry.on('data', (piece) => pieces.push(piece));
    entry.on('end', () => {
      const { path, type, mode = 0, mtime = new Date(0), linkpath } = entry;
      if (type !== 'File' && type !== 'OldFile' && type !== 'Directory' && type !== 'SymbolicLink') {
        problems.push(`${excerpt(path)} is neither a file, a directory nor a symbolic link`);
        return;
      }
      entries.push({
        path: type === 'Directory' ? path.replace(/\/$/, '') : path,
        type: type === 'OldFile' ? 'File' : type,
        mode: mode & 0o777,
        mtime: Number.isNaN(mtime.getTime()) ? new Date(0) : mtime,
        content: Buffer.concat(pieces),
        target: type === 'SymbolicLink' ? (linkpath ?? '') : undefined,
      });
    });
  });
  let hasEnded = false;
  parser.on('end', () => (hasEnded = true));
  try {
    parser.write(archive);
    parser.end();
  } catch (error) {
    problems.push(`its archive is damaged: ${messageOf(error)}`);
  }
  if (!hasEnded) problems.push('its archive is truncated');
  return { entries, problem: problems[0] };
}

/** Why these entries cannot be written below a directory without leaving it, in words that follow "it is not valid:". */
function problemIn(entries: readonly ArchiveEntry[]): string | undefined {
  if (entries.length === 0) return 'it is empty';
  if (entries.length > MAX_ENTRIES) return `it has more than ${MAX_ENTRIES} entries`;
  const types = new Map<string, ArchiveEntry['type']>();
  for (const { path, type, target } of entries) {
    if (!isInnerPath(path)) return `${excerpt(path)} is not a path inside it`;
    if (types.has(path)) return `it has ${excerpt(path)} twice`;
    if (target !== undefined && !isInnerLink(path, target)) return `the link ${excerpt(path)} leaves it`;
    types.set(path, type);
  }
  const implied = new Set<string>();
  for (const path of types.keys()) {
    for (const parent of parentsOf(path)) {
      const found = types.get(parent);
      if (found === undefined) implied.add(parent);
      else if (found !== 'Directory') return `${excerpt(path)} is below ${excerpt(parent)}, which is not a directory`;
    }
    // Each of them becomes a directory on the disk.
    if (implied.size > MAX_ENTRIES) return `its paths have more than ${MAX_ENTRIES} directories`;
  }
  return undefined;
}

/** The directories that a path is in, the outermost first. */
export function parentsOf(path: string): string[] {
  const parts = path.split('/');
  return parts.slice(0, -1).map((_, index) => parts.slice(0, index + 1).join('/'));
}

/** Whether a path has only names, and no control characters. */
export function isInnerPath(path: string): boolean {
  if (Buffer.byteLength(path) > MAX_PATH || /[\p{Cc}\p{Cs}\u2028\u2029]/u.test(path)) return false;
  const parts = path.split('/');
  return (
    parts.length <= MAX_DEPTH &&
    parts.every((part) => part !== '' && part !== '.' && part !== '..' && Buffer.byteLength(part) <= 255)
  );
}

/**
 * Whether a link stays inside. A `..` after a name could follow another link, so it is allowed only at the beginning, where all
 * directories are real ones.
 */
export function isInnerLink(path: string, target: string): boolean {
  if (target === '.') return true;
  const parts = target.split('/');
  const down = parts.findIndex((part) => part !== '..');
  const ups = down < 0 ? parts.length : down;
  const rest = parts.slice(ups).join('/');
  return ups < path.split('/').length && (rest === '' ? ups > 0 : isInnerPath(rest));
}
