import { StorageError, VerificationError } from '../errors.ts';
import type { Warnings } from '../log.ts';
import type { Sealing } from '../sealed/sealing.ts';
import type { BlobStore } from '../store/store.ts';
import { afterColon, firstOf, printable } from '../text.ts';
import { listedPaths } from './bundle-paths.ts';
import {
  changedBetween,
  type CollectedFiles,
  collectFiles,
  digestsOf,
  type Omitted,
  TooLarge,
} from './collect-files.ts';
import { authoritiesWithoutKey } from './key-fingerprints.ts';
import { type BundleOwner, type StoredBundle, uploadBundle } from './upload-bundle.ts';

/** Paths in one warning. */
const SHOWN = 5;

/** What became of the bundle of a backup. */
export interface BundleResult {
  /** Undefined when it was not stored. */
  readonly stored: StoredBundle | undefined;
  /** Number of files. */
  readonly files: number;
  readonly missing: readonly Omitted[];
  readonly skipped: readonly Omitted[];
  /** Paths of what changed while the snapshot was taken. */
  readonly changed: readonly string[];
  /** Paths of certificates of authorities whose private keys it does not have. */
  readonly authoritiesWithoutKey: readonly string[];
  /** Why the backup is incomplete, in words that follow "its bundle". */
  readonly problem: string | undefined;
}

/** The bundle of a run: its files are read before the snapshot is taken, and again when they are stored. */
export class Bundling {
  readonly #items: readonly string[];
  readonly #sealing: Sealing;
  readonly #warnings: Warnings;
  readonly #before: ReadonlyMap<string, string>;

  private constructor(
    items: readonly string[],
    sealing: Sealing,
    warnings: Warnings,
    before: ReadonlyMap<string, string>,
  ) {
    this.#items = items;
    this.#sealing = sealing;
    this.#warnings = warnings;
    this.#before = before;
  }

  /** Reads all files, and keeps their digests only. @param items layouts and paths */
  static async prepare(items: readonly string[], sealing: Sealing, warnings: Warnings): Promise<Bundling> {
    const before = await collect(items);
    return new Bundling(items, sealing, warnings, before instanceof TooLarge ? new Map() : digestsOf(before));
  }

  /**
   * Stores the bundle of a snapshot that is not committed yet, and reads it back. A problem of a bundle does not end the backup.
   * @throws Interrupted; StorageError when another worker has stored its bundle under this name
   */
  async store(store: BlobStore, owner: BundleOwner, readBack: 'full' | 'off'): Promise<BundleResult> {
    const collected = await collect(this.#items);
    if (collected instanceof TooLarge) return this.#reported(notStored(collected.message));
    const { entries, missing, skipped } = collected;
    const after = digestsOf(collected);
    const found = {
      ...{ files: entries.filter(({ type }) => type === 'File').length, missing, skipped },
      changed: this.#before.size === 0 ? [] : changedBetween(this.#before, after).map(onHost),
      authoritiesWithoutKey: authoritiesWithoutKey(entries).map(onHost),
    };
    if (found.files === 0) return this.#reported({ ...notStored('there is no file for it'), ...found });
    try {
      const stored = await uploadBundle(store, owner, entries, this.#sealing, readBack);
      return this.#reported({ ...found, stored, problem: lacking(missing) });
    } catch (error) {
      if (!(error instanceof StorageError) && !(error instanceof VerificationError)) throw error;
      // The snapshot of that worker must not lose its name: it has its bundle already.
      if (error instanceof StorageError && error.code === 'BlobAlreadyExists') throw error;
      return this.#reported({ ...notStored(afterColon(error.message).replace(/\.$/, '')), ...found });
    }
  }

  #reported(result: BundleResult): BundleResult {
    const { missing, skipped, changed, authoritiesWithoutKey: authorities, problem } = result;
    if (result.stored === undefined) {
      this.#warnings.add(`The bundle ${problem}.`, 'Correct this and take another backup.');
    }
    for (const [paths, what, hint] of [
      [missing.map(inWords), 'The bundle is incomplete', 'Mount them into the container, or correct SNAPSHOT_BUNDLE.'],
      [skipped.map(inWords), 'Omitted from the bundle', 'Add what they lead to, if it is needed, to SNAPSHOT_BUNDLE.'],
      [
        changed,
        'Changed during the backup, and read again for the bundle',
        'If keys were rotated, take another backup.',
      ],
      [
        authorities,
        'THE BUNDLE HAS NO PRIVATE KEY for certificate authorities, so nobody can issue certificates with it',
        'Store these keys elsewhere, or add their files to SNAPSHOT_BUNDLE.',
      ],
    ] as const) {
      if (paths.length > 0) this.#warnings.add(`${what}: ${someOf(paths)}.`, hint);
    }
    return result;
  }
}

async function collect(items: readonly string[]): Promise<CollectedFiles | TooLarge> {
  try {
    return await collectFiles(await listedPaths(items));
  } catch (error) {
    if (error instanceof TooLarge) return error;
    throw error;
  }
}

function notStored(why: string): BundleResult {
  const nothing = { missing: [], skipped: [], changed: [], authoritiesWithoutKey: [] };
  return { stored: undefined, files: 0, ...nothing, problem: `was not stored: ${why}` };
}

function lacking(missing: readonly Omitted[]): string | undefined {
  return missing.length === 0 ? undefined : `is incomplete: ${someOf(missing.map(inWords))}`;
}

/** The path of an entry, as it was before it was archived. */
function onHost(path: string): string {
  return `/${path}`;
}

function inWords({ path, why }: Omitted): string {
  return `${path} ${why}`;
}

function someOf(texts: readonly string[]): string {
  return printable(firstOf(texts, SHOWN).join(', '));
}
