import { createHash } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { lstat, open, readdir, realpath } from 'node:fs/promises';
import { dirname, relative } from 'node:path';
import { pathOf } from '../directories.ts';
import { hasCode } from '../errors.ts';
import { kindOf, openRegular, whyUnreadable } from '../files.ts';
import { type ArchiveEntry, isInnerLink, isInnerPath, MAX_CONTENT, MAX_ENTRIES, parentsOf } from './archive.ts';

/** A file or directory for the bundle. */
export interface ListedPath {
  /** Absolute. */
  readonly path: string;
  /** Nothing is reported if it does not exist. */
  readonly isOptional: boolean;
}

/** What is not in a bundle, with the reason in words that follow its name. */
export interface Omitted {
  readonly path: string;
  readonly why: string;
}

export interface CollectedFiles {
  readonly entries: readonly ArchiveEntry[];
  /** Listed paths that do not exist, and what cannot be read. */
  readonly missing: readonly Omitted[];
  /** What does not belong into a bundle: links that leave it, FIFOs, sockets, devices. */
  readonly skipped: readonly Omitted[];
}

/** There is more than a bundle can hold. */
export class TooLarge extends Error {}

/** Reads all files below the listed paths into memory. @throws TooLarge */
export async function collectFiles(paths: readonly ListedPath[]): Promise<CollectedFiles> {
  const collector = new Collector();
  for (const listed of paths) await collector.addRoot(listed);
  for (const { path } of paths) await collector.add(path);
  const all = [...collector.entries.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1));
  // A listed path can lead through a link that was found elsewhere: then the directory takes its place.
  const parents = new Set(all.flatMap(({ path }) => parentsOf(path)));
  const entries = all.filter(({ path, type }) => type !== 'SymbolicLink' || !parents.has(path));
  return { entries, missing: collector.missing, skipped: collector.skipped };
}

/** What shows that an entry has changed. */
export function digestsOf({ entries }: CollectedFiles): Map<string, string> {
  return new Map(
    entries.map(({ path, type, mode, content, target = '' }) => {
      return [path, createHash('sha256').update(`${type} ${mode} ${target}\n`).update(content).digest('hex')];
    }),
  );
}

/** Entries of either that the other does not have, or has differently. */
export function changedBetween(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): string[] {
  const paths = new Set([...before.keys(), ...after.keys()]);
  return [...paths].filter((path) => before.get(path) !== after.get(path)).toSorted();
}

/**
 * Walks through directories that other users can change at the same time: each is opened before its entries are read, and no
 * link is followed.
 */
class Collector {
  readonly entries = new Map<string, ArchiveEntry>();
  readonly missing: Omitted[] = [];
  readonly skipped: Omitted[] = [];
  /** Where listed paths really are, by the listed ones. */
  readonly #roots = new Map<string, string>();
  #size = 0;

  async addRoot({ path, isOptional }: ListedPath): Promise<void> {
    try {
      this.#roots.set(path, await realpath(path));
    } catch (error) {
      if (!isOptional || !hasCode(error, 'ENOENT')) this.missing.push({ path, why: whyUnreadable(error) });
    }
  }

  async add(root: string): Promise<void> {
    if (this.#roots.has(root)) await this.#visit(root, root);
  }

  /** @param at leads to it through open directories @param path its name in the bundle, with a leading slash */
  async #visit(at: string, path: string): Promise<void> {
    const name = path.slice(1);
    if (this.entries.has(name)) return;
    if (!isInnerPath(name)) {
      this.skipped.push({ path, why: 'has a path that is too long or too deep, or control characters in its name' });
      return;
    }
    // A listed link is not kept as a link.
    const real = this.#roots.get(path) ?? at;
    try {
      const stats = await lstat(real);
      if (stats.isDirectory()) await this.#addDirectory(real, path, stats);
      else if (stats.isFile()) await this.#addFile(real, name);
      else if (stats.isSymbolicLink()) await this.#addLink(real, path, stats);
      else this.skipped.push({ path, why: `is ${kindOf(stats)}` });
    } catch (error) {
      if (error instanceof TooLarge) throw error;
      this.missing.push({ path, why: whyUnreadable(error) });
    }
  }

  async #addDirectory(at: string, path: string, stats: Stats): Promise<void> {
    await using dir = await open(at, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    const inside = pathOf(dir.fd, at);
    const names = await readdir(inside);
    this.#enter(path.slice(1), 'Directory', stats);
    for (const name of names.toSorted()) await this.#visit(`${inside}/${name}`, `${path}/${name}`);
  }

  async #addFile(at: string, name: string): Promise<void> {
    const { file, stats } = await openRegular(at, 'refuse');
    await using opened = file;
    this.#reserve(stats.size);
    const content = await opened.readFile();
    this.#reserve(content.length);
    this.#size += content.length;
    this.#enter(name, 'File', stats, { content });
  }

  /** A link is kept, as a relative one, if it leads to something below a listed path. */
  async #addLink(at: string, path: string, stats: Stats): Promise<void> {
    const real = await realpath(at).catch(() => undefined);
    const inner = real === undefined ? undefined : this.#innerPath(real);
    const target = inner === undefined ? undefined : relative(dirname(path), inner) || '.';
    if (target === undefined || !isInnerLink(path.slice(1), target)) {
      const why = real === undefined ? 'leads nowhere' : 'leaves the listed paths';
      this.skipped.push({ path, why: `is a link that ${why}` });
      return;
    }
    this.#enter(path.slice(1), 'SymbolicLink', stats, { target });
  }

  /** The path in the bundle of a real path; undefined where it is not below a listed one. */
  #innerPath(real: string): string | undefined {
    for (const [listed, root] of this.#roots) {
      if (real === root || real.startsWith(`${root}/`)) return listed + real.slice(root.length);
    }
    return undefined;
  }

  #reserve(bytes: number): void {
    if (this.#size + bytes > MAX_CONTENT) throw new TooLarge(`its files have more than ${MAX_CONTENT} bytes`);
  }

  #enter(
    path: string,
    type: ArchiveEntry['type'],
    { mode, mtime }: Stats,
    { content = Buffer.alloc(0), target }: { content?: Buffer; target?: string } = {},
  ): void {
    if (this.entries.size === MAX_ENTRIES) throw new TooLarge(`it has more than ${MAX_ENTRIES} files`);
    const seconds = new Date(Math.floor(mtime.getTime() / 1000) * 1000);
    this.entries.set(path, { path, type, mode: mode & 0o777, mtime: seconds, content, target });
  }
}
