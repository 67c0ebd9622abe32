import type { Bucket } from './buckets.ts';
import { REVISION_SIZE } from './entries.ts';
import type { FactStore } from './facts.ts';
import type { Faults } from './faults.ts';
import { leafElements } from './page.ts';
import { varintFields } from './protobuf.ts';

export interface Member {
  /** Lower-case hex without padding, as etcdctl prints it. */
  readonly id: string;
  /** Empty for a member that was added and never started, and in the database of an unwritten promotion. */
  readonly name: string;
  readonly peerURLs: readonly string[];
  readonly clientURLs: readonly string[];
  /** As raft has it. */
  readonly isLearner: boolean;
}

export interface Alarm {
  /** Lower-case hex without padding. */
  readonly memberId: string;
  /** `NOSPACE` or `CORRUPT`; a number in decimal where a later etcd has other alarms. */
  readonly alarm: string;
}

/** Revisions up to which compaction was asked for and done; unequal when the snapshot was taken in the middle. */
export interface Compaction {
  readonly scheduled: number | undefined;
  readonly finished: number | undefined;
}

/** What etcd keeps beside the users' keys (specification: content). */
export interface Content {
  readonly members: readonly Member[];
  /**
   * Ids of voting members that the database takes for learners, often without a name: etcd 3.5.1 to 3.5.19 does not write down
   * that a learner was promoted, which is how kubeadm, k3s and RKE2 add members (etcd issue 19557).
   */
  readonly unwrittenPromotions: readonly string[];
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
const MEMBER_ID = /^[0-9a-f]{1,16}$/;
const ALARMS: Readonly<Record<string, string>> = { 1: 'NOSPACE', 2: 'CORRUPT' };

/** Reads the small buckets; what does not parse is a fault, as etcd would not start from it. */
export function readContent(facts: FactStore, buckets: readonly Bucket[], faults: Faults): Content {
  const reader = new ContentReader(facts, buckets, faults);
  const stored = reader.members();
  const voters = reader.voters();
  const isLearner = (member: Member): boolean => (voters === undefined ? member.isLearner : !voters.has(member.id));
  return {
    members: stored.map((member) => ({ ...member, isLearner: isLearner(member) })),
    unwrittenPromotions: stored.filter((member) => member.isLearner && !isLearner(member)).map(({ id }) => id),
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

/** Members with the names that the database lacks, from where they are known. */
export function withNames(
  members: readonly Member[],
  known: readonly { readonly id: string; readonly name: string }[],
): Member[] {
  const names = new Map(known.map(({ id, name }) => [id, name]));
  return members.map((member) => ({ ...member, name: member.name || (names.get(member.id) ?? '') }));
}

class ContentReader {
  readonly #facts: FactStore;
  readonly #buckets: ReadonlyMap<string, Bucket>;
  readonly #faults: Faults;

  constructor(facts: FactStore, buckets: readonly Bucket[], faults: Faults) {
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

  /** Ids of the members that vote, as raft has it; undefined before 3.5, which does not write it down. */
  voters(): ReadonlySet<string> | undefined {
    const value = this.#value('meta', 'confState');
    if (value === undefined) return undefined;
    // Ids are numbers above 2^53.
    const state = parseObject(value.toString().replaceAll(/\d+/g, '"$&"'));
    const ids = strings(state?.['voters']);
    if (state === undefined || !ids.every((id) => /^\d+$/.test(id))) this.#fault('meta', 'has an impossible confState');
    else if (ids.length > 0) return new Set(ids.map((id) => BigInt(id).toString(16)));
    return undefined;
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
