import * as v from 'valibot';
import { type CataloguedBlob, signatureProblem } from './inventory.ts';
import type { MarkBlob } from './marks.ts';
import { Time } from './record.ts';

/**
 * Copies in a second place. Each is read back after it is stored, and an event says so, because a run can be killed between the two. The
 * event also says when the original was stored: this decides which of two clocks was wrong, and copies are stored in another order.
 */

const Etag = v.pipe(v.string(), v.regex(/^[\x21-\x7e]{1,256}$/));

const Proof = v.object({
  /** Without the prefix. */
  snapshot: v.pipe(v.string(), v.minLength(1), v.maxLength(1024)),
  /** Of its blob, and of that of its bundle if it has one: what is stored later under their names was not read back. */
  etag: Etag,
  bundleetag: v.optional(Etag),
  originalstoredat: Time,
});

/** What was read back. */
interface ReadBackCopy {
  /** Without the prefix. */
  readonly snapshot: string;
  readonly etag: string;
  readonly bundleEtag: string | undefined;
  readonly originalStoredAt: Date;
}

/** The metadata of the event that says that a copy was read back. */
export function copyFields({ snapshot, etag, bundleEtag, originalStoredAt }: ReadBackCopy): Record<string, string> {
  return {
    ...{ snapshot, etag: bare(etag) },
    ...(bundleEtag !== undefined && { bundleetag: bare(bundleEtag) }),
    originalstoredat: originalStoredAt.toISOString(),
  };
}

/** Lists have etags without the quotation marks of headers. */
function bare(etag: string): string {
  return etag.replaceAll('"', '');
}

/** Finds when the original of a copy was stored; undefined for what was not read back. */
export type OriginalOf = (blob: CataloguedBlob) => Date | undefined;

/**
 * Of several events for a copy the latest time counts: who adds one later cannot make the copy older.
 * @param prefix of the place
 * @param areSigned whether others do not count: who copies need not have a key that signs, but where backups are stored a snapshot must
 *   not become older by what anybody can add
 */
export function readCopies(events: readonly MarkBlob[], prefix: string, areSigned: boolean): OriginalOf {
  const originals = new Map<string, number>();
  for (const event of events) {
    if (event.kind !== 'copy' || signatureProblem(event, areSigned) !== undefined) continue;
    const proof = v.safeParse(Proof, event.fields);
    if (!proof.success) continue;
    const { snapshot, etag, bundleetag, originalstoredat } = proof.output;
    const key = keyOf(`${prefix}${snapshot}`, etag, bundleetag);
    originals.set(key, Math.max(originals.get(key) ?? 0, originalstoredat.getTime()));
  }
  return ({ name, etag, bundle, storedAt }) => {
    const original = originals.get(keyOf(name, etag, bundle?.etag));
    // No copy is older than its original.
    return original === undefined ? undefined : new Date(Math.min(original, storedAt.getTime()));
  };
}

function keyOf(name: string, etag: string, bundleEtag = ''): string {
  return [name, bare(etag), bare(bundleEtag)].join(' ');
}

/**
 * The same snapshot, with the time at which its original was stored.
 * @param isSecondPlace whether everything there is a copy, so that the others were not read back
 */
export function withOriginal<T extends CataloguedBlob>(blob: T, originalOf: OriginalOf, isSecondPlace: boolean): T {
  if (blob.record === undefined) return blob;
  const storedAt = originalOf(blob);
  if (storedAt !== undefined) return { ...blob, storedAt };
  return isSecondPlace ? { ...blob, notReadBackBy: 'copy' } : blob;
}

/** Events of copies that are gone, or were replaced. */
export function obsoleteCopies<T extends MarkBlob>(
  blobs: readonly CataloguedBlob[],
  events: readonly T[],
  prefix: string,
): T[] {
  const present = new Set(blobs.map(({ name, etag }) => keyOf(name, etag)));
  return events.filter(({ kind, fields }) => {
    const proof = kind === 'copy' ? v.safeParse(Proof, fields) : undefined;
    return proof?.success === true && !present.has(keyOf(`${prefix}${proof.output.snapshot}`, proof.output.etag));
  });
}
