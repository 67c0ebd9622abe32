import type { CataloguedBlob, Recorded } from '../snapshot/inventory.ts';
import { isSameSnapshot } from './superseded.ts';

const PROTECTIONS: Readonly<Record<string, (snapshot: Recorded<CataloguedBlob>) => boolean>> = {
  encrypted: ({ record }) => record.recipients !== undefined,
  signed: ({ signature }) => signature !== undefined && signature.state !== 'unsigned',
  'stored with a bundle': ({ record }) => record.bundleSha256 !== undefined,
};

/**
 * How the newest snapshot is less protected than the one before it, in words that follow "it is not": a variable got lost, or
 * somebody else took it.
 * @param own snapshots of this cluster, the newest first
 */
export function lostProtection(
  newest: Recorded<CataloguedBlob> | undefined,
  own: readonly Recorded<CataloguedBlob>[],
): string[] {
  const before = newest && own.find((snapshot) => !isSameSnapshot(snapshot, newest));
  if (newest === undefined || before === undefined) return [];
  return Object.entries(PROTECTIONS).flatMap(([words, has]) => (has(before) && !has(newest) ? [words] : []));
}
