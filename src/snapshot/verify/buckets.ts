import { Table } from './memory-budget.ts';
import { combine, crc32c } from './crc32c.ts';
import { ENTRY_PROBLEMS, LEASES, REVISIONS } from './leaf-entries.ts';
import type { PageIndex } from './page-index.ts';
import { BUCKET_HEADER_SIZE, bytesOf, HEADER_SIZE, LEAF_FLAG, leafElements } from './page.ts';
import { ALL_BUCKETS, NO_BUCKETS, RUN_PROBLEMS, RunReader } from './run-reader.ts';
import type { TreeWalk } from './tree.ts';
import type { Problems } from './verdict.ts';

/** Every etcd creates these, test builds one more (specification: content). */
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

/** Buckets whose leaves must have one kind of keys. */
const KINDS: Readonly<Record<string, number>> = { key: REVISIONS, lease: LEASES };

/** One of etcd's buckets, with a valid tree. */
export interface Bucket {
  readonly name: string;
  /** Runs of its leaves in order; an inline bucket has one. */
  readonly leaves: Table;
  /** The only leaf of an inline bucket. */
  readonly image: Buffer | undefined;
}

/**
 * The buckets in the order of their names; undefined when one of them is corrupt, with problems. What is wrong inside valid
 * trees is a problem, too. `root` is the root page of the root bucket.
 */
export function readBuckets(
  index: PageIndex,
  root: number,
  walk: TreeWalk,
  problems: Problems,
): readonly Bucket[] | undefined {
  const leaves = walk.leaves(root, 'the root bucket');
  if (leaves === undefined) return undefined;
  const buckets: Bucket[] = [];
  const names = new Set<string>();
  let isValid = true;
  for (let i = 0; i < leaves.length; i++) {
    const leaf = leaves.get(i);
    const { page, buckets: kind } = index.run(leaf);
    const raw = index.rawOf(leaf);
    if (kind !== ALL_BUCKETS) {
      isValid = false;
      problems.add('bucket', `page ${page} of the root bucket has an element that is not a bucket`, page);
    } else if (raw === undefined) {
      isValid = false;
      problems.add('budget', `page ${page} of the root bucket could not be kept in the memory for one pass`, page);
    } else {
      for (const { key, value } of leafElements(raw)) {
        const name = key.toString('latin1');
        const title = `bucket ${JSON.stringify(name.slice(0, 64))}`;
        names.add(name);
        if (!NAMES.includes(name) && name !== TOLERATED) problems.add('bucket', `${title} is not one of etcd's`, page);
        const bucket = readBucket(index, name, title, value, page, walk, problems);
        if (bucket === undefined) isValid = false;
        else {
          buckets.push(bucket);
          judgeLeaves(index, bucket, title, problems);
        }
      }
    }
  }
  for (const name of NAMES) if (!names.has(name)) problems.add('bucket', `bucket ${name} is missing`);
  return isValid ? buckets : undefined;
}

/** Hash and total keys of `etcdctl snapshot status` (rules of 3.4 and 3.5; specification: snapshot status). */
export function contentHash(index: PageIndex, buckets: readonly Bucket[]): { hash: number; totalKeys: number } {
  let hash = 0;
  let totalKeys = 0;
  for (const { name, leaves } of buckets) {
    hash = crc32c(Buffer.from(name, 'latin1'), hash);
    for (let i = 0; i < leaves.length; i++) {
      const { crc, dataLength, count } = index.run(leaves.get(i));
      hash = combine(hash, crc, dataLength);
      totalKeys += count;
    }
  }
  return { hash, totalKeys };
}

/** `value` is that of the bucket's entry on `page`. */
function readBucket(
  index: PageIndex,
  name: string,
  title: string,
  value: Buffer,
  page: number,
  walk: TreeWalk,
  problems: Problems,
): Bucket | undefined {
  const root = value.length < BUCKET_HEADER_SIZE ? undefined : value.readBigUInt64LE(0);
  const image = root === 0n ? value.subarray(BUCKET_HEADER_SIZE) : undefined;
  let leaves: Table | undefined;
  if (root === undefined) problems.add('bucket', `${title} has no header`, page);
  else if (image !== undefined) leaves = readInline(index, image, title, page, problems);
  else if (root < 2n || root > 0xffff_ffffn) problems.add('bucket', `${title} has an impossible root page`, page);
  else if (value.length !== BUCKET_HEADER_SIZE) problems.add('bucket', `${title} has more than a header`, page);
  else leaves = walk.leaves(Number(root), title);
  return leaves && { name, leaves, image };
}

/** The only leaf of a small bucket is in the value of its entry. */
function readInline(
  index: PageIndex,
  image: Buffer,
  title: string,
  page: number,
  problems: Problems,
): Table | undefined {
  const isLeaf =
    image.length >= HEADER_SIZE &&
    image.readBigUInt64LE(0) === 0n &&
    image.readUInt16LE(8) === LEAF_FLAG &&
    image.readUInt32LE(12) === 0;
  const reader = new RunReader(index);
  if (isLeaf) reader.readInline(bytesOf(image), page);
  if (!isLeaf || reader.problem !== 0) {
    problems.add('bucket', `inline ${title} ${isLeaf ? RUN_PROBLEMS[reader.problem] : 'is not a leaf'}`, page);
    return undefined;
  }
  const leaves = new Table(index.budget, 1);
  const leaf = index.add(reader);
  if (!index.isExhausted && index.push(leaves, leaf)) return leaves;
  problems.add('budget', `inline ${title} does not fit the memory for one pass`, page);
  return undefined;
}

function judgeLeaves(index: PageIndex, { name, leaves, image }: Bucket, title: string, problems: Problems): void {
  const kind = KINDS[name];
  for (let i = 0; i < leaves.length; i++) {
    const { page, buckets, keyKind, count, entryProblem } = index.run(leaves.get(i));
    if (buckets !== NO_BUCKETS) {
      problems.add('bucket', `page ${page} of ${title} has a bucket inside`, page);
    } else if (kind !== undefined && keyKind !== kind && (image === undefined || count > 0)) {
      const problem = ENTRY_PROBLEMS[entryProblem] || 'has keys of another kind';
      problems.add('content', `page ${page} of ${title} ${problem}`, page);
    }
  }
}
