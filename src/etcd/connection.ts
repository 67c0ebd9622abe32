import { noop } from 'cockatiel';
import { Etcd3 } from 'etcd3';
import type { RecordedMember } from '../snapshot/record.ts';
import { etcdError } from './errors.ts';
import type { TlsCredentials } from './tls.ts';

/** How long a member may take for a question that it answers from memory. */
const ANSWER_MS = 5_000;

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

/** One message of the Snapshot stream (specification: the Snapshot RPC). */
export interface SnapshotMessage {
  /** Database bytes still to come after this message; the trailer is not counted. */
  readonly remaining: number;
  readonly blob: Buffer;
}

/** The call's messages; iteration ends without an error only when the server ended the stream with status OK. */
export interface SnapshotCall extends AsyncIterable<SnapshotMessage> {
  cancel(): void;
}

interface RawSnapshotCall extends AsyncIterable<{ remaining_bytes: string; blob: Buffer }> {
  cancel(): void;
  on(event: 'error', listener: (error: unknown) => void): void;
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

  /** The cluster's members as this member knows them. @throws EtcdError */
  async members(): Promise<RecordedMember[]> {
    // etcd3 cannot serialize the call without its argument.
    const { members } = await this.#ask(() => this.cluster.memberList({}));
    return members.map((member) => ({
      id: hex(member.ID),
      name: member.name,
      peerURLs: member.peerURLs,
      isLearner: member.isLearner,
    }));
  }

  /**
   * Starts the Snapshot call. etcd3's own method sends its metadata as the request and so loses the auth token; the same
   * connection's stub does not.
   */
  async snapshot(): Promise<SnapshotCall> {
    const call = await this.pool.withConnection('Maintenance', ({ client, metadata }) => {
      const stub = client as typeof client & { snapshot(request: object, metadata: object): RawSnapshotCall };
      return stub.snapshot({}, metadata);
    });
    // A cancelled call emits an error that nobody may be iterating for any more.
    call.on('error', () => {});
    return {
      cancel: () => call.cancel(),
      async *[Symbol.asyncIterator]() {
        for await (const { remaining_bytes: remaining, blob } of call) yield { remaining: Number(remaining), blob };
      },
    };
  }

  async #ask<T>(question: () => Promise<T>): Promise<T> {
    try {
      return await question();
    } catch (error) {
      throw etcdError(this.endpoint, error);
    }
  }
}

function hex(decimal: string): string {
  return BigInt(decimal).toString(16);
}
