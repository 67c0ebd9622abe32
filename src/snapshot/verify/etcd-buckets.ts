import type { Member } from '../../member.ts';
import type { Bucket } from './buckets.ts';
import { REVISION_SIZE } from './leaf-entries.ts';
import type { PageIndex } from './page-index.ts';
import { leafElements } from './page.ts';
import type { Faults } from './problems.ts';
import { varintFields } from './protobuf.ts';

interface Alarm {
  /** Lower-case hex without padding. */
  readonly memberId: string;
  /** `NOSPACE` or `CORRUPT`; a number in decimal where a later etcd has other alarms. */
  readonly alarm: string;
}

/** Revisions up to which compaction was asked for and done; unequal when the snapshot was taken in the middle. */
interface Compaction {
  readonly scheduled: number | undefined;
  readonly finished: number | undefined;
}

/** What etcd keeps beside the users' keys (specification: content). */
export interface Content {
  /**
   * The members that the file lists. Not always those of the cluster: etcd 3.4 leaves those of the old cluster in it when it
   * restores a snapshot. The running cluster knows better.
   */
  readonly members: readonly Member[];
  /**
   * Ids of voting members that the database takes for learners, often without a name: etcd 3.5.1 to 3.5.19 does not write down
   * that a learner was promoted, which is how kubeadm, k3s and RKE2 add members (etcd issue 19557).
   */
  readonly unwrittenPromotions: readonly string[];
  /** Whether etcd 3.4 wrote it, so that members of an old cluster can be among them. */
  readonly mayListOldMembers: boolean;
  /** Ids of the members that were removed in the life of the cluster. */
  readonly removedMembers: readonly string[];
  readonly alarms: readonly Alarm[];
  readonly authEnabled: boolean;
  /** Of the users and roles: a token that names another one is refused. */
  readonly authRevision: bigint;
  readonly clusterVersion: string | undefined;
  /** The server's schema, since 3.6. */
  readonly storageVersion: string | undefined;
  readonly compaction: Compaction;
}

const VERSION = /^\d+\.\d+\.\d+/;
/** The lists of ids in raft's configuration; the first has those that vote. */
const CONF_STATE = ['voters', 'learners', 'voters_outgoing', 'learners_next'];

const MEMBER_ID = /^[0-9a-f]{1,16}$/;
const ALARMS: Readonly<Record<string, string>> = { 1: 'NOSPACE', 2: 'CORRUPT' };

/** Reads the small buckets; what does not parse is a fault, as etcd would not start from it. */
export function readContent(facts: PageIndex, buckets: readonly Bucket[], faults: Faults): Content {
  const reader = new ContentReader(facts, buckets, faults);
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
  readonly #facts: PageIndex;
  readonly #buckets: ReadonlyMap<string, Bucket>;
  readonly #faults: Faults;

  constructor(facts: PageIndex, buckets: readonly Bucket[], faults: Faults) {
    this.#facts = facts;
    this.#buckets = new Map(buckets.map((bucket) => [bucket.name, bucket]));
    this.#faults = faults;
  }

  /** As the database has them. */
  members(): Member[] {
    const members: Member[] = [];
    for (const { key, value } of this.#entries('members')) {
      const id = key.toString('latin1');
      const member = parseObject(value.toString());
      if (!MEMBER_ID.test(id) || member === undefined) this.#fault('members', 'has an entry that is no member');
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
   * leave the old cluster's ids there until the members change: then they say nothing about this cluster.
   */
  voters(members: ReadonlySet<string>): ReadonlySet<string> {
    const value = this.#value('meta', 'confState');
    if (value === undefined) return new Set();
    // Ids are numbers above 2^53.
    const state = parseObject(value.toString().replaceAll(/\d+/g, '"$&"'));
    const ids = CONF_STATE.map((list) => strings(state?.[list]));
    if (state === undefined || !ids.flat().every((id) => /^\d+$/.test(id))) {
      this.#fault('meta', 'has an impossible confState');
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
      if (fields === undefined) this.#fault('alarm', 'has an entry that is no alarm');
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
    if (value.length !== 1 || value[0]! > 1) this.#fault('auth', 'has an impossible authEnabled');
    return value[0] === 1;
  }

  authRevision(): bigint {
    const value = this.#value('auth', 'authRevision');
    if (value === undefined) return 0n;
    if (value.length === 8) return value.readBigUInt64BE();
    this.#fault('auth', 'has an impossible authRevision');
    return 0n;
  }

  version(bucket: string, key: string): string | undefined {
    const value = this.#value(bucket, key)?.toString();
    if (value !== undefined && !VERSION.test(value)) this.#fault(bucket, `has an impossible ${key}`);
    return value;
  }

  revision(key: string): number | undefined {
    const value = this.#value('meta', key);
    if (value === undefined) return undefined;
    const revision = value.length === REVISION_SIZE ? Number(value.readBigUInt64BE(0)) : Infinity;
    if (Number.isSafeInteger(revision)) return revision;
    this.#fault('meta', `has an impossible ${key}`);
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
      const leaf = bucket.leaves.get(i, 0);
      const raw = this.#facts.rawOf(leaf);
      if (raw !== undefined) yield* leafElements(raw);
      else {
        const page = this.#facts.page(leaf);
        this.#faults.add('budget', `page ${page} of bucket ${name} could not be kept in the memory for one pass`, page);
      }
    }
  }

  #fault(bucket: string, message: string): void {
    this.#faults.add('content', `bucket ${bucket} ${message}`);
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
