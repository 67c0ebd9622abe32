import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A snapshot of a real server, about 280 kB. */
export const SNAPSHOT = readFileSync(
  join(import.meta.dirname, '..', 'fixtures', 'etcd-snapshots', 'etcd-3.5.30-k8s.snap'),
);

/** The same without its sha256 trailer. */
export const DATABASE = SNAPSHOT.subarray(0, -32);
