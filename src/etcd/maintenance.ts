import { type ClientHttp2Session, connect, constants, type IncomingHttpHeaders } from 'node:http2';
import { isIP } from 'node:net';
import {
  decodeSnapshotMessage,
  decodeStatus,
  MessageBytes,
  type MoreStatus,
  type SnapshotMessage,
} from './messages.ts';
import type { TlsCredentials } from './tls.ts';

/**
 * Bytes in flight before the server waits for us. The default of 64 KiB nearly halves the throughput of a snapshot, which
 * holds etcd's read transaction open for its whole duration.
 */
const FLOW_CONTROL_WINDOW = 8 * 1024 * 1024;

/** Bytes of one message: the limit of gRPC's own libraries. */
const LARGEST_MESSAGE = 4 * 1024 * 1024;

/** What precedes each message: one byte that says whether it is compressed, and its length in four. */
const PREFIX_SIZE = 5;

/** A message without fields. */
const EMPTY_REQUEST = Buffer.alloc(PREFIX_SIZE);

/** The gRPC statuses that `etcdError` knows by name. */
const STATUS_NAMES: Readonly<Record<string, string>> = { 1: 'CANCELLED', 4: 'DEADLINE_EXCEEDED', 14: 'UNAVAILABLE' };

/**
 * gRPC calls of etcd's Maintenance service over Node's own HTTP/2, on a connection of their own. The gRPC library takes two thirds
 * more processor time for a snapshot, because it joins and decodes each message of 32 KiB; here the bytes stay where the socket
 * left them.
 */
export class Maintenance {
  readonly #session: ClientHttp2Session;
  readonly #token: string | undefined;

  /** Begins to connect. A connection that fails is an error of each call. */
  constructor(endpoint: string, tls: TlsCredentials | undefined, token: string | undefined) {
    const host = new URL(endpoint).hostname.replace(/^\[(.*)\]$/, '$1');
    this.#token = token;
    this.#session = connect(endpoint, {
      ...(tls !== undefined && { ca: tls.ca, cert: tls.cert, key: tls.key }),
      // An IP address is no server name (RFC 6066). The certificate is compared with it all the same.
      ...(isIP(host) !== 0 && { servername: '' }),
      settings: { enablePush: false, initialWindowSize: FLOW_CONTROL_WINDOW },
    });
    this.#session.on('error', () => {});
    this.#session.on('connect', () => {
      // The event can follow the end.
      if (!this.#session.destroyed) this.#session.setLocalWindowSize(FLOW_CONTROL_WINDOW);
    });
  }

  /** What the member that this connection leads to says of itself. */
  async status(): Promise<MoreStatus> {
    for await (const message of this.#call('Status')) return decodeStatus(message);
    throw new Error('Protocol error: no answer to Status');
  }

  /** The messages of a snapshot. Ends without an error only when the server ended the call with status OK. */
  async *snapshot(): AsyncGenerator<SnapshotMessage, void, void> {
    for await (const message of this.#call('Snapshot')) yield decodeSnapshotMessage(message);
  }

  /** Ends all calls. */
  close(): void {
    this.#session.destroy();
  }

  /** The messages that answer a request without fields. */
  async *#call(method: string): AsyncGenerator<MessageBytes, void, void> {
    const stream = this.#session.request({
      ':method': 'POST',
      ':path': `/etcdserverpb.Maintenance/${method}`,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...(this.#token !== undefined && { token: this.#token }),
    });
    // A server that fails at once sends its status in the only headers, otherwise in those after the messages.
    const headers: IncomingHttpHeaders = {};
    const collect = (more: IncomingHttpHeaders): void => void Object.assign(headers, more);
    // An error can come when nobody iterates any more.
    stream
      .on('response', collect)
      .on('trailers', collect)
      .on('error', () => {});
    stream.end(EMPTY_REQUEST);
    const bytes = new MessageBytes();
    let length: number | undefined;
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      bytes.push(chunk);
      for (;;) {
        if (length === undefined && bytes.size >= PREFIX_SIZE) length = lengthFrom(bytes);
        if (length === undefined || bytes.size < length) break;
        yield new MessageBytes(bytes.take(length));
        length = undefined;
      }
    }
    assertOk(headers, stream.rstCode);
    if (length !== undefined || bytes.size > 0) throw new Error('UNAVAILABLE: the stream ended within a message');
  }
}

function lengthFrom(bytes: MessageBytes): number {
  const isCompressed = bytes.byte() !== 0;
  const length = bytes.byte() * 2 ** 24 + (bytes.byte() << 16) + (bytes.byte() << 8) + bytes.byte();
  if (!isCompressed && length <= LARGEST_MESSAGE) return length;
  throw new Error(`Protocol error: a ${isCompressed ? 'compressed message' : `message of ${length} bytes`}`);
}

function assertOk(headers: IncomingHttpHeaders, reset: number): void {
  const { ':status': http = 'none', 'grpc-status': status, 'grpc-message': message } = headers;
  if (status === '0') return;
  const cause = reset === constants.NGHTTP2_NO_ERROR ? '' : `, RST_STREAM ${reset}`;
  if (status === undefined) throw new Error(`UNAVAILABLE: no gRPC status (HTTP status ${String(http)}${cause})`);
  throw new Error(`${STATUS_NAMES[String(status)] ?? String(status)}: ${unescaped(String(message ?? ''))}`);
}

/** The server percent-encodes its messages. */
function unescaped(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}
