import type { Member } from '../../member.ts';
import { type Bucket, contentHash } from './buckets.ts';
import { REVISION_SIZE, REVISIONS } from './leaf-entries.ts';
import { countLiveKeys, type HashKV, hashKV } from './live-keys.ts';
import type { PageIndex } from './page-index.ts';
import { leafElements } from './page.ts';
import { varintFields } from './protobuf.ts';
import type { Problems } from './verdict.ts';
import type { KeyPages } from './verified-snapshot.ts';

interface Alarm {
  /** Lower-case hex without padding. */
  readonly memberId: string;
  /** `NOSPACE` or `CORRUPT`; a number in decimal where a later etcd has other alarms. */
  readonly alarm: string;
}

/** Revisions up to which compaction was requested and done; unequal when the snapshot was taken in the middle. */
interface Compaction {
  readonly scheduled: number | undefined;
  readonly finished: number | undefined;
}

/** What etcd stores in addition to the keys of users (specification: content). */
export interface Content {
  /**
   * The members that the file lists, not always those of the cluster: after a restore, etcd 3.4 leaves those of the old cluster
   * in it. The running cluster is the better source.
   */
  readonly members: readonly Member[];
  /**
   * Ids of voting members that are learners in the database, often without a name: etcd 3.5.1 to 3.5.19 does not store the
   * promotion of a learner, which is how kubeadm, k3s and RKE2 add members (etcd issue 19557).
   */
  readonly unwrittenPromotions: readonly string[];
  /** Written by etcd 3.4: members of an old cluster can be among them. */
  readonly mayListOldMembers: boolean;
  /** Ids of the members that were removed in the life of the cluster. */
  readonly removedMembers: readonly string[];
  readonly alarms: readonly Alarm[];
  readonly authEnabled: boolean;
  /** Of the users and roles: a token with another one is refused. */
  readonly authRevision: bigint;
  readonly clusterVersion: string | undefined;
  /** The schema of the server, since 3.6. */
  readonly storageVersion: string | undefined;
  readonly compaction: Compaction;
}

/** The content of valid trees; undefined what problems in the `key` bucket or the memory budget hide. */
export interface Summary extends Content {
  /** In lower-case hex without padding, as `etcdctl snapshot status -w table` prints it. */
  readonly hash: string;
  /** All entries of all buckets: `TOTAL KEYS` of etcdctl and etcdutl 3.4 and 3.5. */
  readonly totalKeys: number;
  /** Main revision of the last entry: `REVISION` of `etcdctl snapshot status`, 0 in an empty database. */
  readonly revision: number | undefined;
  /** The revision of a server that starts from this snapshot: more than `revision` after some compactions. */
  readonly effectiveRevision: number | undefined;
  /** `TOTAL KEYS` of etcdutl 3.6 and later. */
  readonly totalKeys36: number | undefined;
  /** Keys that a client can get. */
  readonly liveKeys: number | undefined;
  /** To compare with live members; undefined also when there are too many small entries. */
  readonly hashKV: HashKV | undefined;
  readonly keyPages: KeyPages | undefined;
}

const VERSION = /^\d+\.\d+\.\d+/;
/** The lists of ids in raft's configuration; the first has those that vote. */
const CONF_STATE = ['voters', 'learners', 'voters_outgoing', 'learners_next'];

const MEMBER_ID = /^[0-9a-f]{1,16}$/;
const ALARMS: Readonly<Record<string, string>> = { 1: 'NOSPACE', 2: 'CORRUPT' };

/** Summarizes buckets with valid trees; what is wrong in their content is added to the problems. */
export function summarize(index: PageIndex, buckets: readonly Bucket[], pageSize: number, problems: Problems): Summary {
  const { hash, totalKeys } = contentHash(index, buckets);
  const content = readContent(index, buckets, problems);
  const { scheduled = -1, finished = -1 } = content.compaction;
  const compactRevision = Math.max(scheduled, finished);
  const keys = buckets.find(({ name }) => name === 'key');
  const revision = keys && lastRevision(index, keys);
  const live = revision === undefined ? undefined : keys && countLiveKeys(index, keys.leaves);
  const sum = live && keys && hashKV(index, keys.leaves, compactRevision, live);
  const effectiveRevision = revision === undefined ? undefined : Math.max(revision, compactRevision, 1);
  return {
    ...content,
    hash: hash.toString(16),
    totalKeys,
    revision,
    effectiveRevision,
    totalKeys36: live?.total36,
    liveKeys: live?.live,
    hashKV:
      sum === undefined || effectiveRevision === undefined
        ? undefined
        : { hash: sum, revision: effectiveRevision, compactRevision },
    keyPages: keys && keyPages(index, keys, pageSize, problems),
  };
}

/** Main revision of the last key; undefined if some keys are not revisions. */
function lastRevision(index: PageIndex, { leaves }: Bucket): number | undefined {
  let revision = 0;
  for (let i = 0; i < leaves.length; i++) {
    const leaf = leaves.get(i);
    const { count, keyKind } = index.run(leaf);
    if (count === 0) continue;
    if (keyKind !== REVISIONS) return undefined;
    revision = index.lastMain(leaf);
  }
  return revision;
}

/** Page number and overflow of each leaf, in the order of the file; undefined when they do not fit the memory. */
function keyPages(
  index: PageIndex,
  { leaves, image }: Bucket,
  pageSize: number,
  problems: Problems,
): KeyPages | undefined {
  if (image !== undefined) return { pageSize, runs: new Uint32Array(), image: Buffer.from(image) };
  if (!index.take(3 * Uint32Array.BYTES_PER_ELEMENT * leaves.length)) {
    problems.add('budget', 'the list of its pages takes more memory than there is for one pass');
    return undefined;
  }
  const pages = new Uint32Array(leaves.length);
  for (let i = 0; i < leaves.length; i++) pages[i] = index.run(leaves.get(i)).page;
  const runs = new Uint32Array(2 * leaves.length);
  pages.sort();
  let i = 0;
  for (const page of pages) {
    runs[i++] = page;
    runs[i++] = index.run(index.pages.get(page)).overflow;
  }
  return { pageSize, runs, image: undefined };
}

/** Reads the small buckets; what does not parse is a problem, as etcd would not start from it. */
function readContent(index: PageIndex, buckets: readonly Bucket[], problems: Problems): Content {
  const reader = new ContentReader(index, buckets, problems);
  const stored = reader.members();
  const voters = reader.voters(new Set(stored.map(({ id }) => id)));
  return {
    members: stored.map((member) => ({ ...member, isLearner: member.isLearner && !voters.has(member.id) })),
    unwrittenPromotions: stored.filter(({ id, isLearner }) => isLearner && voters.has(id)).map(({ id }) => id),
    mayListOldMembers: !reader.hasConfState,
    removedMembers: reader.removedMembers(),
    alarms: reader.alarms(),
    authEnabled: reader.authEnabled(),
    authRevision: reader.authRevision(),
    clusterVersion: reader.version('cluster', 'clusterVersion'),
    storageVersion: reader.version('meta', 'storageVersion'),
    compaction: {
      scheduled: reader.revision('scheduledCompactRev'),
      finished: reader.revision('finishedCompactRev'),
    },
  };
}

class ContentReader {
  readonly #index: PageIndex;
  readonly #buckets: ReadonlyMap<string, Bucket>;
  readonly #problems: Problems;

  constructor(index: PageIndex, buckets: readonly Bucket[], problems: Problems) {
    this.#index = index;
    this.#buckets = new Map(buckets.map((bucket) => [bucket.name, bucket]));
    this.#problems = problems;
  }

  /** As stored in the database. */
  members(): Member[] {
    const members: Member[] = [];
    for (const { key, value } of this.#entries('members')) {
      const id = key.toString('latin1');
      const member = parseObject(value.toString());
      if (!MEMBER_ID.test(id) || member === undefined) this.#fail('members', 'has an entry that is not a member');
      else {
        members.push({
          id,
          name: typeof member['name'] === 'string' ? member['name'] : '',
          peerURLs: strings(member['peerURLs']),
          clientURLs: strings(member['clientURLs']),
          isLearner: member['isLearner'] === true,
        });
      }
    }
    return members;
  }

  /**
   * Ids of the members that vote according to raft; none before 3.5, which does not store them. After a restore, etcd's tools
   * leave the ids of the old cluster there until the members change: then they do not apply to this cluster.
   */
  voters(members: ReadonlySet<string>): ReadonlySet<string> {
    const value = this.#value('meta', 'confState');
    if (value === undefined) return new Set();
    // Ids are numbers above 2^53.
    const state = parseObject(value.toString().replaceAll(/\d+/g, '"$&"'));
    const ids = CONF_STATE.map((list) => strings(state?.[list]));
    if (state === undefined || !ids.flat().every((id) => /^\d+$/.test(id))) {
      this.#fail('meta', 'has an impossible confState');
      return new Set();
    }
    const [voters = [], ...others] = ids.map((list) => list.map((id) => BigInt(id).toString(16)));
    return [voters, ...others].flat().every((id) => members.has(id)) ? new Set(voters) : new Set();
  }

  /** Since etcd 3.5. */
  get hasConfState(): boolean {
    return this.#value('meta', 'confState') !== undefined;
  }

  removedMembers(): string[] {
    return [...this.#entries('members_removed')].map(({ key }) => key.toString('latin1'));
  }

  alarms(): Alarm[] {
    const alarms: Alarm[] = [];
    for (const { key } of this.#entries('alarm')) {
      const fields = varintFields(key);
      if (fields === undefined) this.#fail('alarm', 'has an entry that is not an alarm');
      else {
        const kind = String(fields.get(2) ?? 0n);
        alarms.push({ memberId: (fields.get(1) ?? 0n).toString(16), alarm: ALARMS[kind] ?? kind });
      }
    }
    return alarms;
  }

  authEnabled(): boolean {
    const value = this.#value('auth', 'authEnabled');
    if (value === undefined) return false;
    if (value.length !== 1 || value[0]! > 1) this.#fail('auth', 'has an impossible authEnabled');
    return value[0] === 1;
  }

  authRevision(): bigint {
    const value = this.#value('auth', 'authRevision');
    if (value === undefined) return 0n;
    if (value.length === 8) return value.readBigUInt64BE();
    this.#fail('auth', 'has an impossible authRevision');
    return 0n;
  }

  version(bucket: string, key: string): string | undefined {
    const value = this.#value(bucket, key)?.toString();
    if (value !== undefined && !VERSION.test(value)) this.#fail(bucket, `has an impossible ${key}`);
    return value;
  }

  revision(key: string): number | undefined {
    const value = this.#value('meta', key);
    if (value === undefined) return undefined;
    const revision = value.length === REVISION_SIZE ? Number(value.readBigUInt64BE(0)) : Infinity;
    if (Number.isSafeInteger(revision)) return revision;
    this.#fail('meta', `has an impossible ${key}`);
    return undefined;
  }

  #value(bucket: string, key: string): Buffer | undefined {
    for (const entry of this.#entries(bucket)) if (entry.key.equals(Buffer.from(key))) return entry.value;
    return undefined;
  }

  *#entries(name: string): Generator<{ key: Buffer; value: Buffer }> {
    const bucket = this.#buckets.get(name);
    if (bucket === undefined) return;
    if (bucket.image !== undefined) return void (yield* leafElements(bucket.image));
    for (let i = 0; i < bucket.leaves.length; i++) {
      const leaf = bucket.leaves.get(i);
      const raw = this.#index.rawOf(leaf);
      if (raw !== undefined) yield* leafElements(raw);
      else {
        const { page } = this.#index.run(leaf);
        this.#problems.add(
          'budget',
          `page ${page} of bucket ${name} could not be kept in the memory for one pass`,
          page,
        );
      }
    }
  }

  #fail(bucket: string, message: string): void {
    this.#problems.add('content', `bucket ${bucket} ${message}`);
  }
}

function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? Object.fromEntries(Object.entries(value)) : undefined;
  } catch {
    return undefined;
  }
}

function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}
