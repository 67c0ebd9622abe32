import type { CataloguedBlob, Recorded } from '../snapshot/inventory.ts';
import { formOf } from '../snapshot/snapshot-name.ts';

/** A form with a signature must not make room for one without: anybody who can write could have made that. */
const TRUST = { bad: 0, unsigned: 0, 'unknown-key': 1, valid: 2 } as const;

/** Whether two blobs are the same snapshot: one was made of the other by `rewrap`, or both of a third one. */
export function isSameSnapshot(one: Recorded<CataloguedBlob>, other: Recorded<CataloguedBlob>): boolean {
  return identityOf(one) === identityOf(other);
}

/** Blobs of which `rewrap` has made a later form, each with the last one that can take its place and was read back. */
export function findSuperseded<T extends CataloguedBlob>(
  own: readonly Recorded<T>[],
): Map<CataloguedBlob, Recorded<T>> {
  const superseded = new Map<CataloguedBlob, Recorded<T>>();
  for (const forms of Map.groupBy(own, identityOf).values()) {
    const proven = forms.filter(({ notReadBackBy }) => notReadBackBy === undefined);
    for (const each of forms) {
      const last = lastFormOf(each, proven);
      if (last !== undefined && formOf(each.name) < formOf(last.name)) superseded.set(each, last);
    }
  }
  return superseded;
}

/**
 * The last form that can take the place of a snapshot: with a signature that says as much, and with its bundle.
 * @param forms of this snapshot
 */
export function lastFormOf<T extends CataloguedBlob>(
  snapshot: CataloguedBlob,
  forms: readonly Recorded<T>[],
): Recorded<T> | undefined {
  return forms
    .toSorted((a, b) => formOf(b.name) - formOf(a.name))
    .find((form) => trustIn(form) >= trustIn(snapshot) && (snapshot.bundle === undefined || form.bundle !== undefined));
}

/** What nobody has read back replaces nothing, and does not count: copies, and later forms of snapshots that have another form. */
export function findUnproven<T extends CataloguedBlob>(own: readonly Recorded<T>[]): Set<CataloguedBlob> {
  const unproven = new Set<CataloguedBlob>();
  for (const forms of Map.groupBy(own, identityOf).values()) {
    const doubtful = forms.filter(({ notReadBackBy }) => notReadBackBy !== undefined);
    const hasOther = doubtful.length < forms.length;
    for (const form of doubtful) if (hasOther || form.notReadBackBy === 'copy') unproven.add(form);
  }
  return unproven;
}

function identityOf({ record }: Recorded<CataloguedBlob>): string {
  return [record.clusterId, record.takenAt.toISOString(), record.sha256].join(' ');
}

function trustIn({ signature }: CataloguedBlob): number {
  return TRUST[signature?.state ?? 'unsigned'];
}
