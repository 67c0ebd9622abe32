import { Table } from './budget.ts';
import { combine, crc32c } from './crc32c.ts';
import { ENTRY_PROBLEMS, LEASES, REVISIONS } from './leaf-entries.ts';
import type { PageIndex } from './page-index.ts';
import { BUCKET_HEADER_SIZE, bytesOf, HEADER_SIZE, LEAF_FLAG, leafElements } from './page.ts';
import type { Faults } from './problems.ts';
import { ALL_BUCKETS, NO_BUCKETS, PROBLEMS, RunReader } from './run-reader.ts';
import type { TreeWalk } from './tree.ts';

/** Every etcd creates these ones, test builds one more (specification: content). */
const NAMES: readonly string[] = [
  'alarm',
  'auth',
  'authRoles',
  'authUsers',
  'cluster',
  'key',
  'lease',
  'members',
  'members_removed',
  'meta',
];
const TOLERATED = 'test';

/** Buckets whose leaves must be of one kind of keys. */
const KINDS: Readonly<Record<string, number>> = { key: REVISIONS, lease: LEASES };

/** One of etcd's buckets, found sound as a tree. */
export interface Bucket {
  readonly name: string;
  /** Facts of its leaves in order; an inline bucket has one. */
  readonly leaves: Table;
  /** The one leaf of an inline bucket. */
  readonly image: Buffer | undefined;
  /** The page where it begins, for faults. */
  readonly page: number;
}

/**
 * The buckets in the order of their names, each with its tree; undefined when one is broken, with faults that say how. What
 * is wrong inside sound trees is told, too. `root` is the root page of the root bucket.
 */
export function readBuckets(
  facts: PageIndex,
  root: number,
  walk: TreeWalk,
  faults: Faults,
): readonly Bucket[] | undefined {
  const leaves = walk.leaves(root, 'the root bucket');
  if (leaves === undefined) return undefined;
  const buckets: Bucket[] = [];
  const names = new Set<string>();
  let isSound = true;
  for (let i = 0; i < leaves.length; i++) {
    const leaf = leaves.get(i, 0);
    const page = facts.page(leaf);
    const raw = facts.rawOf(leaf);
    if (facts.buckets(leaf) !== ALL_BUCKETS) {
      isSound = false;
      faults.add('bucket', `page ${page} of the root bucket has an element that is no bucket`, page);
    } else if (raw === undefined) {
      isSound = false;
      faults.add('budget', `page ${page} of the root bucket could not be kept in the memory for one pass`, page);
    } else {
      for (const { key, value } of leafElements(raw)) {
        const name = key.toString('latin1');
        names.add(name);
        if (!NAMES.includes(name) && name !== TOLERATED) {
          faults.add(
            'bucket',
            `there is a bucket ${JSON.stringify(name.slice(0, 64))} that is not one of etcd's`,
            page,
          );
        }
        const bucket = readBucket(facts, name, value, page, walk, faults);
        if (bucket === undefined) isSound = false;
        else buckets.push(bucket);
      }
    }
  }
  for (const name of NAMES) if (!names.has(name)) faults.add('bucket', `bucket ${name} is missing`);
  return isSound ? buckets : undefined;
}

/** What `etcdctl snapshot status` calls hash and total keys (3.4 and 3.5 rules; specification: snapshot status). */
export function contentHash(facts: PageIndex, buckets: readonly Bucket[]): { hash: number; totalKeys: number } {
  let hash = 0;
  let totalKeys = 0;
  for (const { name, leaves } of buckets) {
    hash = crc32c(Buffer.from(name, 'latin1'), hash);
    for (let i = 0; i < leaves.length; i++) {
      const leaf = leaves.get(i, 0);
      hash = combine(hash, facts.crc(leaf), facts.dataLength(leaf));
      totalKeys += facts.count(leaf);
    }
  }
  return { hash, totalKeys };
}

function readBucket(
  facts: PageIndex,
  name: string,
  value: Buffer,
  page: number,
  walk: TreeWalk,
  faults: Faults,
): Bucket | undefined {
  const title = `bucket ${JSON.stringify(name.slice(0, 64))}`;
  if (value.length < BUCKET_HEADER_SIZE) {
    faults.add('bucket', `${title} has no header`, page);
    return undefined;
  }
  const root = value.readBigUInt64LE(0);
  const isInline = root === 0n;
  let leaves: Table | undefined;
  if (isInline) leaves = readInline(facts, value.subarray(BUCKET_HEADER_SIZE), title, page, faults);
  else if (root < 2n || root > 0xffff_ffffn) faults.add('bucket', `${title} has an impossible root page`, page);
  else if (value.length !== BUCKET_HEADER_SIZE) faults.add('bucket', `${title} has more than a header`, page);
  else leaves = walk.leaves(Number(root), title);
  if (leaves === undefined) return undefined;
  const image = isInline ? value.subarray(BUCKET_HEADER_SIZE) : undefined;
  const bucket: Bucket = { name, leaves, image, page: isInline ? page : Number(root) };
  judgeLeaves(facts, bucket, title, faults);
  return bucket;
}

/** A bucket that is small enough has its one leaf in the value of its entry. */
function readInline(facts: PageIndex, image: Buffer, title: string, page: number, faults: Faults): Table | undefined {
  const isLeaf =
    image.length >= HEADER_SIZE &&
    image.readBigUInt64LE(0) === 0n &&
    image.readUInt16LE(8) === LEAF_FLAG &&
    image.readUInt32LE(12) === 0;
  if (!isLeaf) {
    faults.add('bucket', `inline ${title} is no leaf`, page);
    return undefined;
  }
  const run = new RunReader(facts);
  run.readInline(bytesOf(image), page);
  if (run.problem !== 0) {
    faults.add('bucket', `inline ${title} ${PROBLEMS[run.problem]}`, page);
    return undefined;
  }
  const leaves = new Table(facts.budget, 1);
  const fact = facts.add(run);
  if (facts.exhausted || !facts.push(leaves, fact)) {
    faults.add('budget', `inline ${title} does not fit the memory for one pass`, page);
    return undefined;
  }
  return leaves;
}

function judgeLeaves(facts: PageIndex, { name, leaves, image }: Bucket, title: string, faults: Faults): void {
  const kind = KINDS[name];
  for (let i = 0; i < leaves.length; i++) {
    const leaf = leaves.get(i, 0);
    const page = facts.page(leaf);
    if (facts.buckets(leaf) !== NO_BUCKETS) {
      faults.add('bucket', `page ${page} of ${title} has a bucket inside`, page);
    } else if (kind !== undefined && facts.keyKind(leaf) !== kind && (image === undefined || facts.count(leaf) > 0)) {
      const problem = ENTRY_PROBLEMS[facts.entryProblem(leaf)] || 'has keys of another kind';
      faults.add('content', `page ${page} of ${title} ${problem}`, page);
    }
  }
}
