import { noop } from 'cockatiel';
import { Etcd3 } from 'etcd3';
import protobuf from 'protobufjs/minimal.js';
import { etcdError } from './errors.ts';
import type { TlsCredentials } from './tls.ts';

/** How long a member may take for a question that it answers from memory. */
const ANSWER_MS = 5_000;

/** HashKV reads the whole database. */
const HASH_MS = 60_000;

/**
 * Bytes in flight on a stream before the server waits for us. The default of 64 KiB nearly halves the throughput of a
 * snapshot, which holds etcd's read transaction open for as long as it takes.
 */
const FLOW_CONTROL_WINDOW = 8 * 1024 * 1024;

/** What a member says of itself. Ids are lower-case hex without padding, as etcdctl prints them. */
export interface MemberStatus {
  readonly endpoint: string;
  readonly clusterId: string;
  readonly memberId: string;
  readonly version: string;
  readonly isLeader: boolean;
  readonly isLearner: boolean;
  /** False while the cluster has no quorum. */
  readonly hasLeader: boolean;
  /** Bytes of the database file. */
  readonly dbSize: number;
}

export interface MemberHash {
  readonly hash: number;
  /** -1 while nothing was compacted. */
  readonly compactRevision: number;
}

/** One message of the Snapshot stream (specification: the Snapshot RPC). */
export interface SnapshotMessage {
  /** Database bytes still to come after this message; the trailer is not counted. */
  readonly remaining: number;
  readonly blob: Buffer;
  /** The server's storage version, the same in every message; empty before 3.6. */
  readonly version: string;
}

/** The call's messages; iteration ends without an error only when the server ended the stream with status OK. */
export interface SnapshotCall extends AsyncIterable<SnapshotMessage> {
  cancel(): void;
}

/**
 * The connection to one member. It is the etcd3 client, one per endpoint because that client picks among several at random,
 * without its retries because the run itself goes on to the next member.
 */
export class Connection extends Etcd3 {
  readonly endpoint: string;

  constructor(endpoint: string, tls: TlsCredentials | undefined) {
    super({
      hosts: endpoint,
      ...(tls === undefined || !endpoint.startsWith('https:')
        ? {}
        : { credentials: { rootCertificate: tls.ca, privateKey: tls.key, certChain: tls.cert } }),
      defaultCallOptions: ({ isStream }) => (isStream ? {} : { deadline: Date.now() + ANSWER_MS }),
      faultHandling: { global: noop, host: () => noop },
      grpcOptions: {
        'grpc-node.flow_control_window': FLOW_CONTROL_WINDOW,
        // etcd is on the cluster's own network, whatever proxy the environment names for Azure.
        'grpc.enable_http_proxy': 0,
      },
    });
    this.endpoint = endpoint;
  }

  /** @throws EtcdError */
  async status(): Promise<MemberStatus> {
    const status = await this.#ask(() => this.maintenance.status());
    return {
      endpoint: this.endpoint,
      clusterId: hex(status.header.cluster_id),
      memberId: hex(status.header.member_id),
      version: status.version,
      isLeader: status.leader === status.header.member_id,
      isLearner: status.isLearner,
      hasLeader: status.leader !== '0',
      dbSize: Number(status.dbSize),
    };
  }

  /**
   * The hash of all keys at a revision, which is the same on every sound member with the same compaction
   * (specification: HashKV). A member that lags behind or has compacted the revision answers with an error.
   * @throws EtcdError
   */
  async hashKV(revision: number): Promise<MemberHash> {
    const options = { deadline: Date.now() + HASH_MS };
    const request = { revision: String(revision) };
    // etcd3's own method asks for a name that its client does not have.
    const answer = await this.#ask(async () =>
      this.pool.exec<{ hash: number; compact_revision: string }>('Maintenance', 'HashKV', request, options),
    );
    return { hash: answer.hash, compactRevision: Number(answer.compact_revision) };
  }

  /**
   * Starts the Snapshot call, with the connection and the token of the etcd3 client. Its own method loses the token, and the
   * message that it knows has no version.
   */
  async snapshot(): Promise<SnapshotCall> {
    const call = await this.pool.withConnection('Maintenance', ({ client, metadata }) =>
      client.makeServerStreamRequest(SNAPSHOT_METHOD, () => Buffer.alloc(0), decodeMessage, undefined, metadata),
    );
    // A cancelled call emits an error that nobody may be iterating for any more.
    call.on('error', () => {});
    return call;
  }

  async #ask<T>(question: () => Promise<T>): Promise<T> {
    try {
      return await question();
    } catch (error) {
      throw etcdError(this.endpoint, error);
    }
  }
}

const SNAPSHOT_METHOD = '/etcdserverpb.Maintenance/Snapshot';

/** @throws Error for bytes that are no message, which ends the call */
function decodeMessage(bytes: Buffer): SnapshotMessage {
  const reader = protobuf.Reader.create(bytes);
  const message = { remaining: 0, blob: view(new Uint8Array()), version: '' };
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === ((2 << 3) | 0)) message.remaining = toNumber(reader.uint64());
    else if (tag === ((3 << 3) | 2)) message.blob = view(reader.bytes());
    else if (tag === ((4 << 3) | 2)) message.version = reader.string();
    else reader.skipType(tag & 7);
  }
  return message;
}

/** protobufjs gives 64-bit numbers in two halves. A database is far below 2^53 bytes. */
function toNumber({ high, low }: { readonly high: number; readonly low: number }): number {
  return (high >>> 0) * 2 ** 32 + (low >>> 0);
}

/** The same bytes, not copied. */
function view(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function hex(decimal: string): string {
  return BigInt(decimal).toString(16);
}
