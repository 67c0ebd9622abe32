import {
  Etcd3,
  type IAuthenticateResponse,
  type IHashKVResponse,
  type IMember,
  type IMemberAddResponse,
  type IMemberListResponse,
  type IRangeRequest,
  type IRangeResponse,
  type IStatusResponse,
  type Services,
} from 'etcd3';
import type { EtcdConfig, EtcdUser } from '../config/config.ts';
import { EtcdError } from '../errors.ts';
import type { Warnings } from '../log.ts';
import type { Member } from '../member.ts';
import { etcdError } from './errors.ts';
import {
  decodeQuota,
  decodeSnapshotMessage,
  hex,
  type MemberStatus,
  type SnapshotMessage,
  statusFrom,
} from './messages.ts';
import { wrongProtocol } from './probes.ts';
import { expiriesOf, expiryOf, loadTls, RENEW_HINT, type TlsCredentials, unusedFiles } from './tls.ts';

/** Milliseconds for a question that a member answers from memory. */
const ANSWER_MS = 5_000;

/** Milliseconds for a change of the members: it goes through raft, and etcd's own limit is seven seconds. */
const CHANGE_MS = 15_000;

/** HashKV reads the whole database: bytes per millisecond that even a slow member reads. */
const HASH_BYTES_PER_MS = 50_000;

/**
 * Bytes in flight on a stream before the server waits for us. The default of 64 KiB nearly halves the throughput of a
 * snapshot, which holds etcd's read transaction open for its whole duration; more than this only takes memory.
 */
const FLOW_CONTROL_WINDOW = 1024 * 1024;

/** Bytes; gRPC's own limit. What a member sends to the worker is far smaller. */
const LARGEST_ANSWER = 4 * 1024 * 1024;

/** Tokens that can be sent in a header; etcd's own are far shorter. */
const TOKEN = /^[\x21-\x7e]{1,4096}$/;

type Callback = (error: Error | null, answer: unknown) => void;
type Method = (request: object, metadata: object, options: { deadline: number }, callback: Callback) => void;
type Question<T> = [
  service: keyof typeof Services,
  method: string,
  request: object,
  /** Time limit. */
  ms: number,
  /** Whether a member that sees no leader must refuse immediately. */
  needsLeader?: boolean,
  /** For an answer of which etcd3's own definition lacks a part. The request is then empty. */
  decode?: (bytes: Buffer) => T,
];

/** The call's messages; iteration ends without an error only when the server ended the stream with status OK. */
interface SnapshotCall extends AsyncIterable<SnapshotMessage> {
  cancel(): void;
}

interface MemberHash {
  /** The member that answered: several may have the same address. */
  readonly memberId: string;
  readonly hash: number;
  /** -1 if nothing was compacted. */
  readonly compactRevision: number;
}

/**
 * etcd3's client of one endpoint, because with several it picks one at random. Some of its methods lose the token or call a name
 * that does not exist, so calls use its pool directly. Its retries and circuit breaker do not see the errors of such calls: the
 * run itself goes on to the next member.
 */
class Client extends Etcd3 {
  readonly calls = this.pool;
}

interface ConnectionOptions {
  readonly token?: string | undefined;
  /** Bytes. */
  readonly largestAnswer?: number;
  /** Milliseconds for a question that a member answers from memory. */
  readonly answerMs?: number;
}

/** The connection to one member, with the token of its user if there is one. */
export class Connection {
  readonly endpoint: string;
  readonly tls: TlsCredentials | undefined;
  readonly #client: Client;
  readonly #user: EtcdUser | undefined;
  readonly #answerMs: number;
  #token: Promise<string | undefined> | undefined;

  /** @param options what the connection to a server of our own needs; the token is used instead of that of a user */
  constructor(
    endpoint: string,
    tls: TlsCredentials | undefined,
    user?: EtcdUser,
    { token, largestAnswer = LARGEST_ANSWER, answerMs = ANSWER_MS }: ConnectionOptions = {},
  ) {
    this.endpoint = endpoint;
    this.tls = tls;
    this.#user = user;
    this.#answerMs = answerMs;
    this.#token = token === undefined ? undefined : Promise.resolve(token);
    this.#client = new Client({
      hosts: endpoint,
      ...(tls === undefined || !endpoint.startsWith('https:')
        ? {}
        : { credentials: { rootCertificate: tls.ca, privateKey: tls.key, certChain: tls.cert } }),
      grpcOptions: {
        'grpc-node.flow_control_window': FLOW_CONTROL_WINDOW,
        'grpc.max_receive_message_length': largestAnswer,
        // While a member is being started, the default grows longer than the start takes.
        'grpc.max_reconnect_backoff_ms': 1_000,
        // etcd is in the cluster's own network, whatever proxy the environment names for Azure.
        'grpc.enable_http_proxy': 0,
      },
    });
  }

  /** @throws EtcdError */
  async status(): Promise<MemberStatus> {
    return statusFrom(this.endpoint, await this.ask<IStatusResponse>('Maintenance', 'status', {}, this.#answerMs));
  }

  /**
   * The hash of all keys at a revision, which is the same on every valid member with the same compaction
   * (specification: HashKV). A member that lags behind or has compacted the revision answers with an error.
   * @param dbSize bytes of the database, which determine the time limit
   * @throws EtcdError
   */
  async hashKV(revision: number, dbSize: number): Promise<MemberHash> {
    const request = { revision: String(revision) };
    const ms = this.#answerMs + dbSize / HASH_BYTES_PER_MS;
    const answer = await this.ask<IHashKVResponse>('Maintenance', 'HashKV', request, ms);
    return {
      memberId: hex(answer.header.member_id),
      hash: Number(answer.hash),
      compactRevision: Number(answer.compact_revision),
    };
  }

  /**
   * Reads keys, linearizably by default: an answer then requires a leader and a majority of the members.
   * @throws EtcdError
   */
  async range(request: IRangeRequest): Promise<IRangeResponse> {
    return this.ask('KV', 'range', request, this.#answerMs, request.serializable !== true);
  }

  /** Limit of the database size in bytes; undefined before etcd 3.6. @throws EtcdError */
  async quota(): Promise<number | undefined> {
    return (await this.ask('Maintenance', 'Status', {}, this.#answerMs, false, decodeQuota)) || undefined;
  }

  /**
   * The members as this one knows them, without quorum. A learner refuses.
   * @throws EtcdError, also when a member of another cluster answers, or one that is not in its own list
   */
  async listMembers({ clusterId, memberId }: Pick<MemberStatus, 'clusterId' | 'memberId'>): Promise<Member[]> {
    const { header, members } = await this.ask<IMemberListResponse>('Cluster', 'memberList', {}, this.#answerMs);
    const list = members.map(memberFrom);
    if (hex(header.cluster_id) === clusterId && list.some(({ id }) => id === memberId)) return list;
    throw new EtcdError(
      `etcd at ${this.endpoint} is not a member of cluster ${clusterId}.`,
      'Set SNAPSHOT_ETCD_ENDPOINTS to the members, not a load balancer. Check whether this member was removed.',
    );
  }

  /** @throws EtcdError, also if the cluster refuses, for example while a voting member is not connected */
  async addMember(peerURLs: readonly string[], isLearner: boolean): Promise<Member> {
    const request = { peerURLs, isLearner };
    return memberFrom((await this.ask<IMemberAddResponse>('Cluster', 'memberAdd', request, CHANGE_MS)).member);
  }

  /** @throws EtcdError */
  async removeMember(id: string): Promise<void> {
    await this.ask('Cluster', 'memberRemove', { ID: BigInt(`0x${id}`).toString() }, CHANGE_MS);
  }

  /** Makes a learner a voting member. @throws EtcdError, also when it has not caught up with the leader yet */
  async promoteMember(id: string): Promise<void> {
    await this.ask('Cluster', 'memberPromote', { ID: BigInt(`0x${id}`).toString() }, CHANGE_MS);
  }

  /** Starts the Snapshot call. @throws EtcdError if the user gets no token for it */
  async snapshot(): Promise<SnapshotCall> {
    const token = await this.#currentToken();
    const call = await this.#client.calls.withConnection('Maintenance', ({ client, metadata }) => {
      if (token !== undefined) metadata.set('token', token);
      const path = '/etcdserverpb.Maintenance/Snapshot';
      return client.makeServerStreamRequest(path, () => Buffer.alloc(0), decodeSnapshotMessage, undefined, metadata);
    });
    // A cancelled call emits an error after its reader has left.
    call.on('error', () => {});
    return call;
  }

  /** Whether an error says that the token has expired; if so, the next call gets a new one. */
  dropsToken(error: unknown): boolean {
    const isExpired = this.#token !== undefined && /invalid auth token/.test(String(error));
    if (isExpired) this.#token = undefined;
    return isExpired;
  }

  close(): void {
    this.#client.close();
  }

  /** Any other call with one answer. @throws EtcdError */
  async ask<T>(...question: Question<T>): Promise<T> {
    const ask = async (): Promise<T> => this.#call(await this.#currentToken(), ...question);
    try {
      return await ask().catch((error: unknown) => {
        if (this.dropsToken(error)) return ask();
        throw error;
      });
    } catch (error) {
      throw (await wrongProtocol(this.endpoint, error)) ?? etcdError(this.endpoint, error);
    }
  }

  async #call<T>(
    token: string | undefined,
    ...[service, method, request, ms, needsLeader = false, decode]: Question<T>
  ): Promise<T> {
    return this.#client.calls.withConnection(service, async ({ client, metadata }) => {
      if (token !== undefined) metadata.set('token', token);
      if (needsLeader) metadata.set('hasleader', 'true');
      const options = { deadline: Date.now() + ms };
      return new Promise<T>((resolve, reject) => {
        const end: Callback = (error, answer) => (error === null ? resolve(answer as T) : reject(error));
        if (decode === undefined) {
          (client as typeof client & Record<string, Method>)[method]?.(request, metadata, options, end);
        } else {
          const path = `/etcdserverpb.${service}/${method}`;
          client.makeUnaryRequest(path, () => Buffer.alloc(0), decode, undefined, metadata, options, end);
        }
      });
    });
  }

  async #currentToken(): Promise<string | undefined> {
    if (this.#user === undefined) return this.#token;
    return (this.#token ??= this.#authenticate(this.#user));
  }

  /** A login goes through raft: without quorum it fails. */
  async #authenticate({ name, password }: EtcdUser): Promise<string | undefined> {
    try {
      const request = { name, password: password.reveal() };
      const call = this.#call<IAuthenticateResponse>(undefined, 'Auth', 'authenticate', request, this.#answerMs, true);
      const { token } = await call;
      if (!TOKEN.test(token)) throw new Error('its token cannot be sent in a header');
      return token;
    } catch (error) {
      this.#token = undefined;
      const text = String(error);
      // A cluster without authentication needs no token.
      if (/authentication is not enabled/.test(text)) return undefined;
      if (/DEADLINE_EXCEEDED|no leader|request timed out/.test(text)) {
        throw new EtcdError(
          `Login to etcd at ${this.endpoint} timed out: it needs quorum.`,
          'Use a client certificate whose common name is a user with the role root, which needs no login.',
          error,
        );
      }
      throw (await wrongProtocol(this.endpoint, error)) ?? etcdError(this.endpoint, error);
    }
  }
}

function memberFrom({ ID, name, peerURLs, clientURLs, isLearner }: IMember): Member {
  return { id: hex(ID), name, peerURLs, clientURLs, isLearner };
}

/**
 * The connections to a cluster's members; nothing is sent yet. The user's password is sent to the configured endpoints only, and to
 * those with a certificate of the configured CA: other URLs are what a member claims.
 */
export class Connections {
  /** To the configured endpoints, in their order. */
  readonly configured: readonly Connection[];
  /** Null without TLS. */
  readonly clientCertificateExpiresAt: Date | null;
  readonly #tls: TlsCredentials | undefined;
  readonly #user: EtcdUser | undefined;
  readonly #others = new Map<string, Connection>();

  constructor({ endpoints, user }: Pick<EtcdConfig, 'endpoints' | 'user'>, tls: TlsCredentials | undefined) {
    this.clientCertificateExpiresAt = tls === undefined ? null : expiryOf(tls);
    this.configured = endpoints.map((endpoint) => new Connection(endpoint, tls, user));
    this.#tls = tls;
    this.#user = user;
  }

  /** To any endpoint; always the same one for the same endpoint. */
  to(endpoint: string): Connection {
    const known = this.configured.find((connection) => connection.endpoint === endpoint) ?? this.#others.get(endpoint);
    if (known !== undefined) return known;
    const isAuthenticated = this.#tls !== undefined && endpoint.startsWith('https://');
    const connection = new Connection(endpoint, this.#tls, isAuthenticated ? this.#user : undefined);
    this.#others.set(endpoint, connection);
    return connection;
  }

  close(): void {
    for (const connection of [...this.configured, ...this.#others.values()]) connection.close();
  }
}

/** @throws UsageError for unusable certificate files */
export async function connectAll(config: EtcdConfig | undefined, now: Date, warnings?: Warnings): Promise<Connections> {
  if (config === undefined) throw new Error('the command did not say that it needs etcd');
  const credentials = config.tls === undefined ? undefined : await loadTls(config.tls, now);
  for (const [sentence, hint] of unusedFiles(config)) warnings?.add(sentence, hint);
  const expiries = credentials === undefined ? [] : expiriesOf(credentials, now);
  for (const { sentence, isSoon } of expiries) if (isSoon) warnings?.add(sentence, RENEW_HINT);
  return new Connections(config, credentials);
}
