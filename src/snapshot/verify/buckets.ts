import { LEASES, REVISIONS } from './leaf-entries.ts';
import { Table } from './memory-budget.ts';
import { BUCKET_HEADER_SIZE, bytesOf, HEADER_SIZE, LEAF_FLAG, leafElements } from './page.ts';
import { ALL_BUCKETS, NO_BUCKETS, RunReader } from './run-reader.ts';
import type { TreeWalk } from './tree-and-freelist.ts';

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

/** Buckets whose entries must all be of one kind. */
const KINDS: Readonly<Record<string, readonly [kind: number, name: string] | undefined>> = {
  key: [REVISIONS, 'a revision of a key'],
  lease: [LEASES, 'a lease'],
};

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
export function readBuckets(walk: TreeWalk, root: number): readonly Bucket[] | undefined {
  const { index, problems } = walk;
  const leaves = walk.leaves(root, 'the root bucket');
  if (leaves === undefined) return undefined;
  const buckets: (Bucket | undefined)[] = [];
  const missing = new Set(NAMES);
  for (const { number, page, buckets: kind } of index.runs(leaves)) {
    const raw = index.rawOf(number);
    if (kind !== ALL_BUCKETS || raw === undefined) {
      buckets.push(undefined);
      const isLimit = kind === ALL_BUCKETS;
      const why = isLimit ? 'does not fit into the memory for one pass' : 'has an element that is not a bucket';
      problems.add(isLimit ? 'budget' : 'bucket', `page ${page} of the root bucket ${why}`, page);
      continue;
    }
    for (const { key, value } of leafElements(raw)) {
      const name = key.toString('latin1');
      const title = `bucket ${JSON.stringify(name.slice(0, 64))}`;
      missing.delete(name);
      if (!NAMES.includes(name) && name !== TOLERATED) problems.add('bucket', `${title} is not one of etcd's`, page);
      buckets.push(readBucket(walk, name, title, value, page));
    }
  }
  for (const name of missing) problems.add('bucket', `bucket ${name} is missing`);
  const valid = buckets.filter((bucket) => bucket !== undefined);
  return valid.length === buckets.length ? valid : undefined;
}

/** `value` is that of the bucket's entry on `page`. */
function readBucket(walk: TreeWalk, name: string, title: string, value: Buffer, page: number): Bucket | undefined {
  const root = value.length < BUCKET_HEADER_SIZE ? undefined : value.readBigUInt64LE(0);
  const image = root === 0n ? value.subarray(BUCKET_HEADER_SIZE) : undefined;
  let leaves: Table | undefined;
  if (image !== undefined) leaves = readInline(walk, image, title, page);
  else if (root === undefined || root < 2n || root > 0xffff_ffffn || value.length !== BUCKET_HEADER_SIZE) {
    walk.problems.add('bucket', `${title} has a header of the wrong length or an invalid root page`, page);
  } else leaves = walk.leaves(Number(root), title);
  if (leaves === undefined) return undefined;
  const bucket = { name, leaves, image };
  judgeLeaves(walk, bucket, title);
  return bucket;
}

/** The only leaf of a small bucket is in the value of its entry. */
function readInline({ index, problems }: TreeWalk, image: Buffer, title: string, page: number): Table | undefined {
  const isLeaf =
    image.length >= HEADER_SIZE &&
    image.readBigUInt64LE(0) === 0n &&
    image.readUInt16LE(8) === LEAF_FLAG &&
    image.readUInt32LE(12) === 0;
  const reader = new RunReader(index.entries);
  if (isLeaf) reader.readInline(bytesOf(image), page);
  if (!isLeaf || reader.problem !== '') {
    problems.add('bucket', `inline ${title} ${isLeaf ? reader.problem : 'is not a leaf'}`, page);
    return undefined;
  }
  const leaves = new Table(index.budget, 1);
  const leaf = index.add(reader);
  if (!index.isExhausted && index.push(leaves, leaf)) return leaves;
  problems.add('budget', `inline ${title} does not fit into the memory for one pass`, page);
  return undefined;
}

function judgeLeaves({ index, problems }: TreeWalk, { name, leaves, image }: Bucket, title: string): void {
  const [kind, entry] = KINDS[name] ?? [];
  for (const { page, buckets, keyKind, count } of index.runs(leaves)) {
    if (buckets !== NO_BUCKETS) {
      problems.add('bucket', `page ${page} of ${title} contains a bucket`, page);
    } else if (kind !== undefined && keyKind !== kind && (image === undefined || count > 0)) {
      problems.add('content', `page ${page} of ${title} has an entry that is not ${entry}`, page);
    }
  }
}
