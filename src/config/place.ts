import { WorkerError } from '../errors.ts';
import type { VariableName } from './variables.ts';

/** Where snapshots are: the place of the backups, or the second one with their copies. */
export type Place = 'first' | 'copy';

/** A text that names variables and commands for the first place, with those for the given one. */
export function namedFor(place: Place, text: string): string {
  if (place === 'first') return text;
  return text
    .replaceAll(/\bSNAPSHOT_(?=AZURE_|BLOB_PREFIX\b)/g, 'SNAPSHOT_COPY_')
    .replaceAll(/\betcd-snapshot backup\b/g, 'etcd-snapshot copy')
    .replaceAll(/\betcd-snapshot (list|verify|restore|drill)\b(?! --from-copy)/g, '$& --from-copy');
}

/** What was thrown while the given place was used: its hint names the variables of that place. */
export function errorAt(place: Place, error: unknown): unknown {
  if (error instanceof WorkerError) error.hint = namedFor(place, error.hint);
  return error;
}

/** The variable that has the meaning of this one for the given place. */
export function variableOf(place: Place, name: VariableName): VariableName {
  return namedFor(place, name) as VariableName;
}
