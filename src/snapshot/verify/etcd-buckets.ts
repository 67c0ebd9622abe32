import type { Member } from '../../member.ts';
import type { Bucket } from './buckets.ts';
import { combine, crc32c } from './checksums.ts';
import { REVISIONS } from './leaf-entries.ts';
import { countLiveKeys, type HashKV, hashKV, REVISION_SIZE } from './live-keys.ts';
import type { PageIndex } from './page-index.ts';
import { leafElements } from './page.ts';
import type { KeyPages, Problems } from './verdict.ts';

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
  /**
   * `memberId` in lower-case hex without padding; `alarm` is `NOSPACE` or `CORRUPT`, a number in decimal where a later etcd has
   * other alarms.
   */
  readonly alarms: readonly { readonly memberId: string; readonly alarm: string }[];
  readonly authEnabled: boolean;
  /** Of the users and roles: a token with another one is refused. */
  readonly authRevision: bigint;
  readonly clusterVersion: string | undefined;
  /** The schema of the server, since 3.6. */
  readonly storageVersion: string | undefined;
  /** Revisions up to which compaction was requested and done; unequal when the snapshot was taken in the middle. */
  readonly compaction: { readonly scheduled: number | undefined; readonly finished: number | undefined };
}

/** The content of valid trees; what problems in the `key` bucket or the memory budget hide is undefined. */
export interface Summary extends Content {
  /** In lower-case hex without padding, as `etcdctl snapshot status -w table` prints it. */
  readonly hash: string;
  /** All entries of all buckets: `TOTAL KEYS` of etcdctl and etcdutl 3.4 and 3.5. */
  readonly totalKeys: number;
  /** Main revision of the last entry: `REVISION` of `etcdctl snapshot status`, 0 in an empty database. */
  readonly revision?: number;
  /** The revision of a server that starts from this snapshot: more than `revision` after some compactions. */
  readonly effectiveRevision?: number;
  /** `TOTAL KEYS` of etcdutl 3.6 and later. */
  readonly totalKeys36?: number | undefined;
  /** Keys that a client can get. */
  readonly liveKeys?: number | undefined;
  /** To compare with live members; undefined also when there are too many small entries. */
  readonly hashKV?: HashKV | undefined;
  readonly keyPages?: KeyPages | undefined;
}

/** The lists of ids in raft's configuration; the first has those that vote. */
const CONF_STATE = ['voters', 'learners', 'voters_outgoing', 'learners_next'];

const MEMBER_ID = /^[0-9a-f]{1,16}$/;
const ALARMS: Readonly<Record<string, string>> = { 1: 'NOSPACE', 2: 'CORRUPT' };

/** Summarizes buckets with valid trees; what is wrong in their content is added to the problems. */
export function summarize(index: PageIndex, buckets: readonly Bucket[], pageSize: number, problems: Problems): Summary {
  const summary = { ...readContent(index, buckets, problems), ...contentHash(index, buckets) };
  const keys = buckets.find(({ name }) => name === 'key');
  const revision = keys && lastRevision(index, keys);
  if (keys === undefined || revision === undefined) return summary;
  const { scheduled = -1, finished = -1 } = summary.compaction;
  const compactRevision = Math.max(scheduled, finished);
  const effectiveRevision = Math.max(revision, compactRevision, 1);
  const live = countLiveKeys(index, keys.leaves);
  const hash = live && hashKV(index, keys.leaves, compactRevision, live);
  return {
    ...summary,
    revision,
    effectiveRevision,
    totalKeys36: live?.total36,
    liveKeys: live?.live,
    hashKV: hash === undefined ? undefined : { hash, revision: effectiveRevision, compactRevision },
    keyPages: keyPages(index, keys, pageSize, problems),
  };
}

/** Hash and total keys of `etcdctl snapshot status` (rules of 3.4 and 3.5; specification: snapshot status). */
function contentHash(index: PageIndex, buckets: readonly Bucket[]): Pick<Summary, 'hash' | 'totalKeys'> {
  let hash = 0;
  let totalKeys = 0;
  for (const { name, leaves } of buckets) {
    hash = crc32c(Buffer.from(name, 'latin1'), hash);
    for (const { crc, dataLength, count } of index.runs(leaves)) {
      hash = combine(hash, crc, dataLength);
      totalKeys += count;
    }
  }
  return { hash: hash.toString(16), totalKeys };
}

/** Main revision of the last key; undefined if some keys are not revisions. */
function lastRevision(index: PageIndex, { leaves }: Bucket): number | undefined {
  let revision = 0;
  for (const { number, count, keyKind } of index.runs(leaves)) {
    if (count === 0) continue;
    if (keyKind !== REVISIONS) return undefined;
    revision = index.lastMain(number);
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
  const confState = reader.value('meta', 'confState');
  const voters = confState === undefined ? new Set<string>() : reader.voters(confState, stored);
  const authEnabled = reader.value('auth', 'authEnabled', (value) => value.length === 1 && value[0]! < 2);
  const authRevision = reader.value('auth', 'authRevision', ({ length }) => length === 8);
  const revision = (key: string): number | undefined => {
    const value = reader.value('meta', key, isRevision);
    return value && Number(value.readBigUInt64BE());
  };
  return {
    members: stored.map((member) => ({ ...member, isLearner: member.isLearner && !voters.has(member.id) })),
    unwrittenPromotions: stored.filter(({ id, isLearner }) => isLearner && voters.has(id)).map(({ id }) => id),
    mayListOldMembers: confState === undefined,
    removedMembers: [...reader.entries('members_removed')].map(({ key }) => key.toString('latin1')),
    alarms: reader.alarms(),
    authEnabled: authEnabled?.[0] === 1,
    authRevision: authRevision?.readBigUInt64BE() ?? 0n,
    clusterVersion: reader.value('cluster', 'clusterVersion', isVersion)?.toString(),
    storageVersion: reader.value('meta', 'storageVersion', isVersion)?.toString(),
    compaction: { scheduled: revision('scheduledCompactRev'), finished: revision('finishedCompactRev') },
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
    for (const { key, value } of this.entries('members')) {
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
   * Ids of the members that vote according to raft; 3.5 and later store them. After a restore, etcd's tools leave the ids of the
   * old cluster there until the members change: then they do not apply to this cluster.
   */
  voters(confState: Buffer, members: readonly Member[]): ReadonlySet<string> {
    // Ids are numbers above 2^53.
    const state = parseObject(confState.toString().replaceAll(/\d+/g, '"$&"'));
    const ids = CONF_STATE.map((list) => strings(state?.[list]));
    if (state === undefined || !ids.flat().every((id) => /^\d+$/.test(id))) {
      this.#fail('meta', 'has an invalid confState');
      return new Set();
    }
    const [voters = [], ...others] = ids.map((list) => list.map((id) => BigInt(id).toString(16)));
    const isOfThisCluster = [voters, ...others].flat().every((voter) => members.some(({ id }) => id === voter));
    return new Set(isOfThisCluster ? voters : []);
  }

  alarms(): { memberId: string; alarm: string }[] {
    const alarms = [];
    for (const { key } of this.entries('alarm')) {
      const fields = varintFields(key);
      if (fields === undefined) this.#fail('alarm', 'has an entry that is not an alarm');
      else {
        const kind = String(fields.get(2) ?? 0n);
        alarms.push({ memberId: (fields.get(1) ?? 0n).toString(16), alarm: ALARMS[kind] ?? kind });
      }
    }
    return alarms;
  }

  /** The value of a key; undefined when there is none, or it is not valid, which is a problem. */
  value(bucket: string, key: string, isValid?: (value: Buffer) => boolean): Buffer | undefined {
    for (const entry of this.entries(bucket)) {
      if (entry.key.toString('latin1') !== key) continue;
      if (isValid?.(entry.value) ?? true) return entry.value;
      this.#fail(bucket, `has an invalid ${key}`);
    }
    return undefined;
  }

  *entries(name: string): Generator<{ key: Buffer; value: Buffer }, void> {
    const bucket = this.#buckets.get(name);
    if (bucket === undefined) return;
    if (bucket.image !== undefined) return yield* leafElements(bucket.image);
    for (const { number, page } of this.#index.runs(bucket.leaves)) {
      const raw = this.#index.rawOf(number);
      if (raw !== undefined) yield* leafElements(raw);
      else {
        const why = 'does not fit into the memory for one pass';
        this.#problems.add('budget', `page ${page} of bucket ${name} ${why}`, page);
      }
    }
  }

  #fail(bucket: string, message: string): void {
    this.#problems.add('content', `bucket ${bucket} ${message}`);
  }
}

function isVersion(value: Buffer): boolean {
  return /^\d+\.\d+\.\d+/.test(value.toString('latin1'));
}

function isRevision(value: Buffer): boolean {
  return value.length === REVISION_SIZE && Number.isSafeInteger(Number(value.readBigUInt64BE()));
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

/**
 * The varint fields of a small protobuf message by field number, or undefined when it is not well-formed or has fields of
 * another type. Values are unsigned 64-bit numbers.
 */
export function varintFields(message: Uint8Array): ReadonlyMap<number, bigint> | undefined {
  const fields = new Map<number, bigint>();
  let tag: bigint | undefined;
  let number = 0n;
  let shift = 0n;
  for (const byte of message) {
    number |= BigInt(byte & 0x7f) << shift;
    shift += 7n;
    if (byte >= 0x80 && shift < 70n) continue;
    if (number >= 2n ** 64n) return undefined;
    if (tag === undefined) {
      if (number % 8n !== 0n || number === 0n || number > 1000n) return undefined;
      tag = number;
    } else {
      fields.set(Number(tag / 8n), number);
      tag = undefined;
    }
    number = shift = 0n;
  }
  return shift === 0n && tag === undefined ? fields : undefined;
}
