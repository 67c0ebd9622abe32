import type { Connection } from '../etcd/connection.ts';
import type { LiveKey } from '../snapshot/keys.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import { crc32c } from '../snapshot/verify/checksums.ts';
import type { SnapshotFacts } from '../snapshot/verify/verdict.ts';

/** One thing that must be the same in the record, the snapshot and the server that was started from it. */
export interface Check {
  readonly what: string;
  readonly expected: string | number;
  readonly found: string | number;
  readonly ok: boolean;
}

/** The range of all keys, without the empty one: a restore can leave such an entry, which is not a key. */
const EVERYTHING = { key: Buffer.from([0]), range_end: Buffer.from([0]) };

/** Compares the record with what the verifier found, except for counts for which it had too little memory. */
export function compareRecord(record: SnapshotRecord, facts: SnapshotFacts): Check[] {
  return (['revision', 'totalKeys', 'liveKeys', 'totalSize', 'hash'] as const).flatMap((what) => {
    const [expected, found] = [record[what], facts[what]];
    return expected === undefined || found === undefined ? [] : same(`${what} of the record`, expected, found);
  });
}

/**
 * Compares the server with what the verifier found, at the snapshot's revision: leases that expire while it runs delete keys,
 * and its own revision can be higher.
 * @throws EtcdError
 */
export async function compareServer(
  connection: Connection,
  facts: SnapshotFacts,
  sample: readonly LiveKey[],
): Promise<Check[]> {
  const { effectiveRevision: revision, liveKeys, hashKV, totalSize } = facts;
  const at = { revision: String(revision) };
  const { header } = await connection.range({ ...EVERYTHING, limit: 1 });
  const reached = Number(header.revision);
  const checks: Check[] = [{ what: 'revision', expected: revision, found: reached, ok: reached >= revision }];
  if (reached < revision) return checks;
  const { count } = await connection.range({ ...EVERYTHING, ...at, count_only: true });
  if (liveKeys !== undefined) checks.push(same('live keys', liveKeys, Number(count)));
  if (hashKV !== undefined) {
    // At the revision of its compaction, etcd 3.4 answers only for the newest one (0).
    const asked = revision === hashKV.compactRevision ? 0 : revision;
    const { hash, compactRevision } = await connection.hashKV(asked, totalSize);
    checks.push(same('compact revision', hashKV.compactRevision, compactRevision));
    checks.push(same('HashKV', hashKV.hash, hash));
  }
  let equal = 0;
  for (const key of sample) {
    const { kvs } = await connection.range({ key: Buffer.from(key.key, 'latin1'), ...at });
    const [found] = kvs;
    const isEqual = found?.value.length === key.size && crc32c(found.value) === key.crc;
    if (isEqual && Number(found.mod_revision) === key.modRevision && Number(found.version) === key.version) equal++;
  }
  return [...checks, same('keys of a sample with the same value', sample.length, equal)];
}

function same(what: string, expected: string | number, found: string | number): Check {
  return { what, expected, found, ok: expected === found };
}
