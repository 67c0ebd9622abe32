import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The folder of real snapshots. */
export const FIXTURES = join(import.meta.dirname, '..', 'fixtures', 'etcd-snapshots');

/** A snapshot of a real server, about 280 kB. */
export const SNAPSHOT = readFileSync(join(FIXTURES, 'etcd-3.5.30-k8s.snap'));

/**
 * Of m1, m2 and m3, of which etcd 3.5.16 promoted the last two from learners: its database takes them for learners still, and
 * does not know their names.
 */
export const PROMOTED = join(FIXTURES, 'etcd-3.5.16-promoted.snap');

/** The reason to skip a test that restores them; false where the tools of this version can. */
export function unfitFor({ version }: { readonly version: string }): string | false {
  return version.startsWith('3.4.') ? 'the fixtures are of etcd 3.5, and there is only an older one here' : false;
}

/** The same without its sha256 trailer. */
export const DATABASE = SNAPSHOT.subarray(0, -32);
