import { once } from 'node:events';
import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { Connection } from '../../src/etcd/connection.ts';
import { Maintenance } from '../../src/etcd/maintenance.ts';
import { snapshotPieces } from '../../src/etcd/snapshot-stream.ts';
import { FakeMember, messagesOf } from '../support/fake-etcd.ts';
import { DATABASE, SNAPSHOT } from '../support/fixtures.ts';

const HEADERS = { ':status': 200, 'content-type': 'application/grpc' };

/** A server of HTTP/2 that answers the call as the test wants. */
async function serve(t: Test, answer: (stream: ServerHttp2Stream) => void): Promise<string> {
  const sessions = new Set<ServerHttp2Session>();
  const server: Http2Server = createServer().on('session', (session) => sessions.add(session));
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    answer(stream);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Sends pieces, and then the status. */
function send(stream: ServerHttp2Stream, pieces: readonly Buffer[], trailers: object = { 'grpc-status': '0' }): void {
  stream.respond(HEADERS, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ ...trailers }));
  for (const piece of pieces) stream.write(piece);
  stream.end();
}

/** A message of the wire: fields of etcd's SnapshotResponse. */
function message(remaining: number, blob: Uint8Array, before: readonly number[] = []): Buffer {
  const body = Buffer.concat([
    Buffer.from(before),
    Buffer.from([2 << 3, ...varint(remaining), (3 << 3) | 2, ...varint(blob.length)]),
    blob,
  ]);
  return framed(body);
}

function framed(body: Uint8Array, compressed = 0, length = body.length): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt8(compressed);
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, body]);
}

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))];
}

async function read(endpoint: string): Promise<Buffer> {
  const connection = new Connection(endpoint, undefined);
  const pieces: Buffer[] = [];
  try {
    for await (const piece of snapshotPieces(connection, new AbortController().signal)) pieces.push(Buffer.from(piece));
  } finally {
    connection.close();
  }
  return Buffer.concat(pieces);
}

const WIRE = Buffer.concat(messagesOf(DATABASE).map(({ remaining_bytes: left, blob }) => message(left, blob)));

t.test('messages may be cut anywhere', async (t) => {
  for (const chunkSize of [1, 2, 3, 5, 7, 1000, 16_384, 32_768, WIRE.length]) {
    // Byte by byte only as much as shows it.
    const cut = chunkSize < 5 ? 2000 : WIRE.length;
    const chunks = Array.from({ length: Math.ceil(cut / chunkSize) }, (_, index) =>
      WIRE.subarray(index * chunkSize, Math.min(cut, (index + 1) * chunkSize)),
    );
    const endpoint = await serve(t, (stream) => send(stream, [...chunks, WIRE.subarray(cut)]));
    t.ok((await read(endpoint)).equals(SNAPSHOT), `chunks of ${chunkSize} bytes`);
  }
});

t.test('fields that a later etcd adds are ignored', async (t) => {
  const unknown = [(9 << 3) | 2, 3, 1, 2, 3, 10 << 3, 200, 1, ...[(((500 << 3) | 2) % 128) | 128, (500 << 3) >> 7, 0]];
  const wire = messagesOf(DATABASE).map(({ remaining_bytes: left, blob }) => message(left, blob, unknown));
  const endpoint = await serve(t, (stream) => send(stream, wire));
  t.ok((await read(endpoint)).equals(SNAPSHOT));
});

t.test('a call that does not end with status OK is an error', async (t) => {
  const begin = (stream: ServerHttp2Stream): void => {
    stream.respond(HEADERS, { waitForTrailers: true });
    stream.write(message(100_000, Buffer.alloc(4096)));
  };
  const cases: Record<string, [(stream: ServerHttp2Stream) => void, RegExp]> = {
    'a status after the messages': [
      (stream) => send(stream, [WIRE], { 'grpc-status': '14', 'grpc-message': 'etcdserver: server%20stopped' }),
      /the connection broke/,
    ],
    'a status in the only headers': [
      (stream) =>
        stream.respond(
          { ...HEADERS, 'grpc-status': '7', 'grpc-message': 'etcdserver: permission denied' },
          { endStream: true },
        ),
      /the user lacks the role root/,
    ],
    'a message of the status that is not encoded': [
      (stream) =>
        stream.respond({ ...HEADERS, 'grpc-status': '2', 'grpc-message': '100%: broken' }, { endStream: true }),
      /100%: broken/,
    ],
    'no status': [(stream) => (stream.respond(HEADERS), stream.end(WIRE)), /the connection broke/],
    'another answer of HTTP': [(stream) => (stream.respond({ ':status': 502 }), stream.end('Bad Gateway')), /./],
    RST_STREAM: [(stream) => (begin(stream), stream.close(2)), /the connection broke/],
    'RST_STREAM with CANCEL': [(stream) => (begin(stream), stream.close(8)), /the connection broke/],
    GOAWAY: [(stream) => (begin(stream), stream.session?.goaway(1), stream.session?.destroy()), /the connection broke/],
    'a connection that ends': [(stream) => (begin(stream), stream.session?.socket.destroy()), /the connection broke/],
    'an end within a message': [(stream) => send(stream, [WIRE.subarray(0, -1)]), /the connection broke/],
    'an end within a prefix': [
      (stream) => send(stream, [Buffer.concat([WIRE, Buffer.alloc(3)])]),
      /the connection broke/,
    ],
    'a compressed message': [(stream) => send(stream, [framed(Buffer.alloc(10), 1)]), /expected protocol/],
    'a message that is too large': [
      (stream) => send(stream, [framed(Buffer.alloc(10), 0, 0xffffffff)]),
      /expected protocol/,
    ],
    'a field beyond its message': [
      (stream) => send(stream, [framed(Buffer.from([26, 200, 1, 0]))]),
      /expected protocol/,
    ],
    'a number that never ends': [(stream) => send(stream, [framed(Buffer.alloc(20, 0xff))]), /expected protocol/],
    'a field of an unknown type': [
      (stream) => send(stream, [framed(Buffer.from([(2 << 3) | 5, 0, 0, 0, 0]))]),
      /expected protocol/,
    ],
    'a text that is no gRPC': [
      (stream) => send(stream, [Buffer.from('<html>an error page</html>')]),
      /expected protocol|broke/,
    ],
  };
  for (const [what, [answer, expected]] of Object.entries(cases)) {
    await t.rejects(read(await serve(t, answer)), { exitCode: 10, message: expected }, what);
  }
});

t.test('an endpoint where nothing listens', async (t) => {
  await t.rejects(read('http://127.0.0.1:1'), { exitCode: 10, message: /connection refused/ });
});

t.test('the server can send eight MiB before any of it is taken', async (t) => {
  const sent = Promise.withResolvers<void>();
  const size = 7 * 1024 * 1024;
  const endpoint = await serve(t, (stream) => {
    stream.respond(HEADERS);
    stream.write(message(size, Buffer.alloc(size / 2)));
    stream.write(message(0, Buffer.alloc(size / 2)), () => sent.resolve());
  });
  const connection = new Maintenance(endpoint, undefined, undefined);
  const messages = connection.snapshot();
  await messages.next();
  await sent.promise;
  t.pass('the window of the connection and that of the stream are open');
  connection.close();
});

t.test('a member that answers on one connection and not on the other', async (t) => {
  const member = await FakeMember.start(async (send) => {
    for (const part of messagesOf(DATABASE)) await send(part);
  });
  const connection = new Connection(member.endpoint, undefined);
  t.teardown(() => {
    connection.close();
    member.stop();
  });
  const status = await connection.status();
  const first = async (expected: typeof status): Promise<unknown> => {
    const pieces = snapshotPieces(connection, new AbortController().signal, expected);
    const next = await pieces.next();
    await pieces.return();
    return next;
  };
  t.match(await first(status), { done: false });
  for (const other of [{ memberId: 'f' }, { clusterId: 'f' }, { version: '3.5.1' }]) {
    await t.rejects(first({ ...status, ...other }), { exitCode: 10, message: /answers as another member/ });
  }
});

t.test('the quota of a status', async (t) => {
  const body = Buffer.from([
    (1 << 3) | 2,
    4,
    1 << 3,
    10,
    2 << 3,
    11,
    (2 << 3) | 2,
    5,
    ...Buffer.from('3.6.1'),
    12 << 3,
    ...varint(2 ** 33),
  ]);
  const endpoint = await serve(t, (stream) => send(stream, [framed(body)]));
  const connection = new Maintenance(endpoint, undefined, undefined);
  t.strictSame(await connection.status(), { clusterId: 'a', memberId: 'b', version: '3.6.1', quota: 2 ** 33 });
  connection.close();
});
