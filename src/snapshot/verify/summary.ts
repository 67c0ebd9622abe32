import type { KeyPages } from './keys.ts';
import { type Bucket, contentHash } from './buckets.ts';
import { type Content, readContent } from './etcd-buckets.ts';
import { REVISIONS } from './leaf-entries.ts';
import { countLiveKeys, type HashKV, hashKV, type ResourceCount } from './live-keys.ts';
import type { PageIndex } from './page-index.ts';
import type { Faults } from './problems.ts';

/** What the trees of a snapshot tell; undefined where faults in the `key` bucket or the memory budget forbid it. */
export interface Summary extends Content {
  /** In lower-case hex without padding, as `etcdctl snapshot status -w table` prints it. */
  readonly hash: string;
  /** All entries of all buckets: `TOTAL KEYS` of etcdctl and etcdutl 3.4 and 3.5. */
  readonly totalKeys: number;
  /** Main revision of the last entry: `REVISION` of `etcdctl snapshot status`, 0 in an empty database. */
  readonly revision: number | undefined;
  /** The revision that a server has which starts from this snapshot; more than `revision` after some compactions. */
  readonly effectiveRevision: number | undefined;
  /** `TOTAL KEYS` of etcdutl 3.6 and later. */
  readonly totalKeys36: number | undefined;
  /** Keys that a client can get. */
  readonly liveKeys: number | undefined;
  /** Live keys per Kubernetes resource, largest first. */
  readonly resources: readonly ResourceCount[] | undefined;
  /** To compare with live members; undefined also when there are too many small entries for it. */
  readonly hashKV: HashKV | undefined;
  /** Where the keys are, for a second pass. */
  readonly keyPages: KeyPages | undefined;
}

/** Sums up buckets whose trees are sound; faults tell what is wrong inside. */
export function summarize(facts: PageIndex, buckets: readonly Bucket[], pageSize: number, faults: Faults): Summary {
  const { hash, totalKeys } = contentHash(facts, buckets);
  const content = readContent(facts, buckets, faults);
  const { scheduled = -1, finished = -1 } = content.compaction;
  const compactRevision = Math.max(scheduled, finished);
  const keys = buckets.find(({ name }) => name === 'key');
  const revision = keys && lastRevision(facts, keys);
  const live = revision === undefined ? undefined : keys && countLiveKeys(facts, keys.leaves);
  const sum = live && keys && hashKV(facts, keys.leaves, compactRevision, live);
  const effectiveRevision = revision === undefined ? undefined : Math.max(revision, compactRevision, 1);
  return {
    ...content,
    hash: hash.toString(16),
    totalKeys,
    revision,
    effectiveRevision,
    totalKeys36: live?.total36,
    liveKeys: live?.live,
    resources: live?.resources,
    hashKV:
      sum === undefined || effectiveRevision === undefined
        ? undefined
        : { hash: sum, revision: effectiveRevision, compactRevision },
    keyPages: keys && keyPages(facts, keys, pageSize, faults),
  };
}

/** Page number and overflow of each leaf, in the order of the file; undefined when they do not fit the memory. */
function keyPages(facts: PageIndex, { leaves, image }: Bucket, pageSize: number, faults: Faults): KeyPages | undefined {
  if (image !== undefined) return { pageSize, runs: new Uint32Array(), image: Buffer.from(image) };
  if (!facts.take(3 * Uint32Array.BYTES_PER_ELEMENT * leaves.length)) {
    faults.add('budget', 'the list of its pages takes more memory than there is for one pass');
    return undefined;
  }
  const pages = new Uint32Array(leaves.length);
  for (let i = 0; i < leaves.length; i++) pages[i] = facts.page(leaves.get(i, 0));
  const runs = new Uint32Array(2 * leaves.length);
  pages.sort();
  let i = 0;
  for (const page of pages) {
    runs[i++] = page;
    runs[i++] = facts.overflow(facts.pages.get(page, 0));
  }
  return { pageSize, runs, image: undefined };
}

/** Main revision of the last key, unless some keys are no revisions. */
function lastRevision(facts: PageIndex, { leaves }: Bucket): number | undefined {
  let revision = 0;
  for (let i = 0; i < leaves.length; i++) {
    const leaf = leaves.get(i, 0);
    if (facts.count(leaf) === 0) continue;
    if (facts.keyKind(leaf) !== REVISIONS) return undefined;
    revision = facts.lastMain(leaf);
  }
  return revision;
}
