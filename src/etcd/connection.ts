import type {
  IAuthenticateResponse,
  IHashKVResponse,
  IRangeRequest,
  IRangeResponse,
  IStatusResponse,
  Services,
} from 'etcd3';
import type { EtcdUser } from '../config/config.ts';
import { EtcdError } from '../errors.ts';
import { excerpt } from '../text.ts';
import { Client, type SnapshotCall } from './client.ts';
import { etcdError, wrongProtocol } from './errors.ts';
import type { TlsCredentials } from './tls.ts';

/** Characters of a version, such as `3.5.0-rc.1+meta`: it goes into sentences, into the record, and so into headers. */
const VERSION_LENGTH = 64;

/** Errors of a status, and characters of each of them. */
const MAX_ERRORS = 32;
const ERROR_LENGTH = 200;

/** How an alarm stands among the errors of a status. */
const ALARM = /memberID:(\d{1,20}) alarm:(\w{1,32})\b/;

/** The version as a member gives it, with whatever no version has in it replaced. */
export function versionFrom(text: string): string {
  return text.slice(0, VERSION_LENGTH).replace(/[^\w.+-]/g, '?');
}

/** An id in lower-case hex without padding, as etcdctl prints it. @param decimal of 64 bits, as it is decoded */
export function hex(decimal: string): string {
  return BigInt(decimal).toString(16);
}

/** A size or a count, which a member could give as a negative number. */
function countFrom(decimal: string): number {
  return Math.max(0, Number(decimal));
}

export interface MemberAlarm {
  readonly memberId: string;
  /** `NOSPACE` or `CORRUPT`. */
  readonly alarm: string;
}

/** What a member finds wrong with the cluster, and with itself in etcd's words. */
function errorsFrom(errors: readonly string[]): { alarms: MemberAlarm[]; errors: string[] } {
  const few = errors.slice(0, MAX_ERRORS);
  return {
    alarms: few.flatMap((error) => {
      const [, memberId, alarm] = ALARM.exec(error) ?? [];
      return memberId === undefined || alarm === undefined ? [] : { memberId: hex(memberId), alarm };
    }),
    errors: few.filter((error) => !ALARM.test(error)).map((error) => excerpt(error, ERROR_LENGTH)),
  };
}

/** How long a member may take for a question that it answers from memory. */
export const ANSWER_MS = 5_000;

/** HashKV reads the whole database: bytes a millisecond that even a slow member reads. */
const HASH_BYTES_PER_MS = 50_000;

/** What can be sent in a header: etcd's own tokens are far shorter. */
const TOKEN = /^[\x21-\x7e]{1,4096}$/;

/** What a member says of itself. Ids are lower-case hex without padding, as etcdctl prints them. */
export interface MemberStatus {
  readonly endpoint: string;
  readonly clusterId: string;
  readonly memberId: string;
  readonly version: string;
  readonly isLeader: boolean;
  readonly isLearner: boolean;
  /** False while the member sees no leader, as without quorum. */
  readonly hasLeader: boolean;
  /** Bytes of the database file, and those of them that are in use: defragmentation gives back the rest. */
  readonly dbSize: number;
  readonly dbSizeInUse: number;
  /** Of the store, as far as this member has applied it. */
  readonly revision: number;
  readonly raftTerm: number;
  /** Entries of the raft log that the member has, and those of them that are in its database. */
  readonly raftIndex: number;
  readonly raftAppliedIndex: number;
  /** Alarms of the whole cluster, as this member knows them. */
  readonly alarms: readonly MemberAlarm[];
  /** What else it finds wrong with itself, in etcd's words. */
  readonly errors: readonly string[];
}

interface MemberHash {
  /** Who answered: behind one address there may be several members. */
  readonly memberId: string;
  readonly hash: number;
  /** -1 while nothing was compacted. */
  readonly compactRevision: number;
}

/** The connection to one member, with the token of its user if there is one. */
export class Connection {
  readonly endpoint: string;
  readonly tls: TlsCredentials | undefined;
  readonly #client: Client;
  readonly #user: EtcdUser | undefined;
  #token: Promise<string | undefined> | undefined;

  /**
   * @param token stands in for a user's, where the caller can make one
   * @param largestAnswer bytes; undefined = what is enough for everything but values of keys
   */
  constructor(
    endpoint: string,
    tls: TlsCredentials | undefined,
    user?: EtcdUser,
    token?: string,
    largestAnswer?: number,
  ) {
    this.endpoint = endpoint;
    this.tls = tls;
    this.#client = new Client(endpoint, tls, largestAnswer);
    this.#user = user;
    this.#token = token === undefined ? undefined : Promise.resolve(token);
  }

  /** @throws EtcdError */
  async status(): Promise<MemberStatus> {
    const status = await this.ask<IStatusResponse>('Maintenance', 'status', {}, ANSWER_MS);
    return {
      endpoint: this.endpoint,
      clusterId: hex(status.header.cluster_id),
      memberId: hex(status.header.member_id),
      version: versionFrom(status.version),
      isLeader: status.leader === status.header.member_id,
      isLearner: status.isLearner,
      hasLeader: status.leader !== '0',
      dbSize: countFrom(status.dbSize),
      dbSizeInUse: countFrom(status.dbSizeInUse),
      revision: countFrom(status.header.revision),
      raftTerm: Number(status.raftTerm),
      raftIndex: Number(status.raftIndex),
      raftAppliedIndex: Number(status.raftAppliedIndex),
      ...errorsFrom(status.errors),
    };
  }

  /**
   * The hash of all keys at a revision, which is the same on every sound member with the same compaction
   * (specification: HashKV). A member that lags behind or has compacted the revision answers with an error.
   * @param dbSize bytes of the database, which tell how long it may take
   * @throws EtcdError
   */
  async hashKV(revision: number, dbSize: number): Promise<MemberHash> {
    const request = { revision: String(revision) };
    const ms = ANSWER_MS + dbSize / HASH_BYTES_PER_MS;
    const answer = await this.ask<IHashKVResponse>('Maintenance', 'HashKV', request, ms);
    return {
      memberId: hex(answer.header.member_id),
      hash: Number(answer.hash),
      compactRevision: Number(answer.compact_revision),
    };
  }

  /**
   * Reads keys: linearizably, unless told otherwise, so that an answer takes a leader and a majority of the members.
   * @throws EtcdError
   */
  async range(request: IRangeRequest): Promise<IRangeResponse> {
    return this.ask('KV', 'range', request, ANSWER_MS, request.serializable !== true);
  }

  /** Bytes that the database may have; undefined for a member that does not tell. @throws EtcdError */
  async quota(): Promise<number | undefined> {
    const token = await this.#currentToken();
    try {
      return (await this.#client.quota(token, ANSWER_MS)) || undefined;
    } catch (error) {
      throw etcdError(this.endpoint, error);
    }
  }

  /** Starts the Snapshot call. @throws EtcdError when no token can be had for it */
  async snapshot(): Promise<SnapshotCall> {
    return this.#client.snapshot(await this.#currentToken());
  }

  /** Whether an error says that the token is no longer good; if so, the next call gets a new one. */
  dropsToken(error: unknown): boolean {
    const isRefused = this.#token !== undefined && /invalid auth token/.test(String(error));
    if (isRefused) this.#token = undefined;
    return isRefused;
  }

  close(): void {
    this.#client.close();
  }

  /**
   * Any other call with one answer.
   * @param ms how long it may take
   * @param needsLeader whether a member that sees no leader is to say so at once
   * @throws EtcdError
   */
  async ask<T>(
    service: keyof typeof Services,
    method: string,
    request: object,
    ms: number,
    needsLeader = false,
  ): Promise<T> {
    const ask = async (): Promise<T> =>
      this.#client.call<T>(service, method, request, { token: await this.#currentToken(), ms, needsLeader });
    try {
      return await ask().catch((error: unknown) => {
        if (this.dropsToken(error)) return ask();
        throw error;
      });
    } catch (error) {
      throw (await wrongProtocol(this.endpoint, error)) ?? etcdError(this.endpoint, error);
    }
  }

  async #currentToken(): Promise<string | undefined> {
    if (this.#user === undefined) return this.#token;
    return (this.#token ??= this.#authenticate(this.#user));
  }

  /** Logging in goes through raft: without quorum nobody gets a token. */
  async #authenticate({ name, password }: EtcdUser): Promise<string | undefined> {
    try {
      const request = { name, password: password.reveal() };
      const options = { token: undefined, ms: ANSWER_MS, needsLeader: true };
      const { token } = await this.#client.call<IAuthenticateResponse>('Auth', 'authenticate', request, options);
      if (!TOKEN.test(token)) throw new Error('it gave a token that cannot be sent');
      return token;
    } catch (error) {
      this.#token = undefined;
      // A cluster that demands no user needs no token.
      if (/authentication is not enabled/.test(String(error))) return undefined;
      if (/DEADLINE_EXCEEDED|no leader|request timed out/.test(String(error)))
        throw loginTimedOut(this.endpoint, error);
      throw (await wrongProtocol(this.endpoint, error)) ?? etcdError(this.endpoint, error);
    }
  }
}

function loginTimedOut(endpoint: string, cause: unknown): EtcdError {
  return new EtcdError(
    `etcd at ${endpoint} did not log the user in in time: without quorum it cannot.`,
    'A client certificate whose common name is a user with the role root needs no login.',
    cause,
  );
}
