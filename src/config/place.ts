import type { VariableName } from './variables.ts';

/** Where snapshots are: the place of the backups, or the second one with their copies. */
export type Place = 'first' | 'copy';

/** A text that names variables of the first place, with those of the given one. */
export function namedFor(place: Place, text: string): string {
  return place === 'first' ? text : text.replaceAll(/\bSNAPSHOT_(?=AZURE_|BLOB_PREFIX\b)/g, 'SNAPSHOT_COPY_');
}

/** The variable that has the meaning of this one for the given place. */
export function variableOf(place: Place, name: VariableName): VariableName {
  return namedFor(place, name) as VariableName;
}
