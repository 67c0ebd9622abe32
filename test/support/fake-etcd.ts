import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { Authority } from './certificates.ts';

const PROTO = createRequire(import.meta.url).resolve('etcd3/proto/rpc.proto');
const OPTIONS = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };
const definition = loadSync(PROTO, OPTIONS);

export interface Message {
  readonly remaining_bytes: number;
  readonly blob: Uint8Array;
}

type SnapshotStream = grpc.ServerWritableStream<object, Message>;

/** Sends what a misbehaving member sends; returning ends the stream with status OK. */
export type Misbehaviour = (send: (message: Message) => Promise<void>, stream: SnapshotStream) => Promise<void>;

export interface FakeOptions {
  readonly tls?: Authority;
  readonly memberId?: string;
  /** What else it says of itself. */
  readonly status?: object;
  /** What it answers when its HashKV is asked for; otherwise it does not know the question. */
  readonly hashKV?: object;
  /** With what every question is refused, in etcd's words. */
  readonly refusal?: string;
  /** Ends before a login is answered. */
  readonly login?: Promise<void>;
}

/** A real gRPC server that answers as an etcd member does, up to the snapshot, which is the test's. */
export class FakeMember {
  readonly endpoint: string;
  /** How many snapshots were asked for. */
  snapshots = 0;
  /** How many of them were cancelled by the client. */
  cancelled = 0;
  /** With which passwords somebody logged in. */
  readonly passwords: string[] = [];
  readonly #server: grpc.Server;

  private constructor(server: grpc.Server, endpoint: string) {
    this.#server = server;
    this.endpoint = endpoint;
  }

  static async start(
    misbehaviour: Misbehaviour,
    clusterId = '1',
    leader = '2',
    members: readonly object[] = [{ ID: '1', name: 'm1', peerURLs: ['http://127.0.0.1:2380'] }],
    { tls, memberId = '1', status = {}, hashKV, login, refusal }: FakeOptions = {},
  ): Promise<FakeMember> {
    const server = new grpc.Server();
    const header = { cluster_id: clusterId, member_id: memberId, revision: '7', raft_term: '1' };
    const answer =
      (response: object): grpc.handleUnaryCall<object, object> =>
      (_, callback) =>
        refusal === undefined
          ? callback(null, { header, ...response })
          : callback({ code: grpc.status.UNKNOWN, details: refusal });
    server.addService(service('Maintenance'), {
      status: answer({ version: '3.5.0', dbSize: '8192', leader, errors: [], ...status }),
      ...(hashKV && { hashKv: answer({ compact_revision: '-1', ...hashKV }) }),
      snapshot: (stream: SnapshotStream) => void serve(stream),
    });
    server.addService(service('Cluster'), { memberList: answer({ members }) });
    server.addService(service('KV'), { range: answer({ count: '0' }) });
    server.addService(service('Auth'), {
      authenticate: async (
        call: grpc.ServerUnaryCall<{ password: string }, object>,
        callback: grpc.sendUnaryData<object>,
      ) => {
        member.passwords.push(call.request.password);
        await login;
        callback(null, { header, token: 'a-token' });
      },
    });
    const serve = async (stream: SnapshotStream): Promise<void> => {
      member.snapshots++;
      stream.on('cancelled', () => member.cancelled++);
      const send = async (message: Message): Promise<void> =>
        new Promise((resolve) => {
          if (stream.cancelled) return;
          if (stream.write(message)) setImmediate(resolve);
          else stream.once('drain', resolve);
        });
      await misbehaviour(send, stream);
      stream.end();
    };
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', credentialsOf(tls), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    const scheme = tls === undefined ? 'http' : 'https';
    const member: FakeMember = new FakeMember(server, `${scheme}://127.0.0.1:${port}`);
    return member;
  }

  stop(): void {
    this.#server.forceShutdown();
  }
}

function credentialsOf(tls: Authority | undefined): grpc.ServerCredentials {
  if (tls === undefined) return grpc.ServerCredentials.createInsecure();
  const pair = { private_key: readFileSync(tls.server.key), cert_chain: readFileSync(tls.server.cert) };
  return grpc.ServerCredentials.createSsl(readFileSync(tls.ca), [pair], false);
}

function service(name: string): grpc.ServiceDefinition {
  return definition[`etcdserverpb.${name}`] as grpc.ServiceDefinition;
}

/** The messages in which an etcd server sends a database, with the right trailer or another. */
export function messagesOf(database: Uint8Array, trailer?: Uint8Array): Message[] {
  const messages: Message[] = [];
  for (let at = 0; at < database.length; at += 32_768) {
    const blob = database.subarray(at, at + 32_768);
    messages.push({ remaining_bytes: database.length - at - blob.length, blob });
  }
  const sha256 = createHash('sha256').update(database).digest();
  return [...messages, { remaining_bytes: 0, blob: trailer ?? sha256 }];
}
