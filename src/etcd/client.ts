import { Etcd3, type Services } from 'etcd3';
import protobuf from 'protobufjs/minimal.js';
import { versionFrom } from './connection.ts';
import type { TlsCredentials } from './tls.ts';

/**
 * Bytes in flight on a stream before the server waits for us. The default of 64 KiB nearly halves the throughput of a
 * snapshot, which holds etcd's read transaction open for as long as it takes.
 */
const FLOW_CONTROL_WINDOW = 8 * 1024 * 1024;

/** Bytes; gRPC's own limit. What a member sends to the worker is far smaller. */
const LARGEST_ANSWER = 4 * 1024 * 1024;

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

/** How one call is made. */
interface CallOptions {
  readonly token: string | undefined;
  /** Milliseconds that it may take. */
  readonly ms: number;
  /** Has a member that sees no leader say so at once, before it looks at anything else, instead of waiting for one. */
  readonly needsLeader?: boolean;
}

type Callback = (error: Error | null, response: unknown) => void;
type Method = (request: object, metadata: object, options: { deadline: number }, callback: Callback) => void;

/**
 * The etcd3 client of one endpoint, because with several it picks one at random. Some of its methods lose the token or call a name
 * that does not exist, so calls use its connection directly. Its retries and circuit breaker do not see the errors of such
 * calls: the run itself goes on to the next member.
 */
export class Client extends Etcd3 {
  /** @param largestAnswer bytes */
  constructor(endpoint: string, tls: TlsCredentials | undefined, largestAnswer = LARGEST_ANSWER) {
    super({
      hosts: endpoint,
      ...(tls === undefined || !endpoint.startsWith('https:')
        ? {}
        : { credentials: { rootCertificate: tls.ca, privateKey: tls.key, certChain: tls.cert } }),
      grpcOptions: {
        'grpc-node.flow_control_window': FLOW_CONTROL_WINDOW,
        'grpc.max_receive_message_length': largestAnswer,
        // Whoever waits for a member that is being started should not wait longer than that takes.
        'grpc.max_reconnect_backoff_ms': 1_000,
        // etcd is on the cluster's own network, whatever proxy the environment names for Azure.
        'grpc.enable_http_proxy': 0,
      },
    });
  }

  /** One call with one answer, as etcd3's definition of the services describes them. */
  async call<T>(
    service: keyof typeof Services,
    method: string,
    request: object,
    { token, ms, needsLeader = false }: CallOptions,
  ): Promise<T> {
    return this.pool.withConnection(service, async ({ client, metadata }) => {
      if (token !== undefined) metadata.set('token', token);
      if (needsLeader) metadata.set('hasleader', 'true');
      const methods = client as typeof client & Record<string, Method>;
      return new Promise<T>((resolve, reject) => {
        methods[method]?.(request, metadata, { deadline: Date.now() + ms }, (error, response) => {
          if (error === null) resolve(response as T);
          else reject(error);
        });
      });
    });
  }

  /** Bytes that the member's database may have, told since etcd 3.6, else 0. The status that etcd3 knows does not have it. */
  async quota(token: string | undefined, ms: number): Promise<number> {
    return this.pool.withConnection('Maintenance', async ({ client, metadata }) => {
      if (token !== undefined) metadata.set('token', token);
      const options = { deadline: Date.now() + ms };
      return new Promise<number>((resolve, reject) => {
        const end = (error: Error | null, quota = 0): void => (error === null ? resolve(quota) : reject(error));
        client.makeUnaryRequest(STATUS, () => Buffer.alloc(0), decodeQuota, undefined, metadata, options, end);
      });
    });
  }

  /** Starts the Snapshot call. The message that etcd3 knows has no version, so it is read here. */
  async snapshot(token: string | undefined): Promise<SnapshotCall> {
    const call = await this.pool.withConnection('Maintenance', ({ client, metadata }) => {
      if (token !== undefined) metadata.set('token', token);
      return client.makeServerStreamRequest(SNAPSHOT, () => Buffer.alloc(0), decodeMessage, undefined, metadata);
    });
    // A cancelled call emits an error that nobody may be iterating for any more.
    call.on('error', () => {});
    return call;
  }
}

const SNAPSHOT = '/etcdserverpb.Maintenance/Snapshot';
const STATUS = '/etcdserverpb.Maintenance/Status';

/** Field 12 of a status; 0 where the member does not tell it. */
function decodeQuota(bytes: Buffer): number {
  const reader = protobuf.Reader.create(bytes);
  let quota = 0;
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === ((12 << 3) | 0)) quota = toNumber(reader.uint64());
    else reader.skipType(tag & 7);
  }
  return quota;
}

/** @throws Error for bytes that are no message, which ends the call */
function decodeMessage(bytes: Buffer): SnapshotMessage {
  const reader = protobuf.Reader.create(bytes);
  const message = { remaining: 0, blob: view(new Uint8Array()), version: '' };
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === ((2 << 3) | 0)) message.remaining = toNumber(reader.uint64());
    else if (tag === ((3 << 3) | 2)) message.blob = view(reader.bytes());
    else if (tag === ((4 << 3) | 2)) message.version = versionFrom(reader.string());
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
