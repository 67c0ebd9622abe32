import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Interrupted } from '../../src/errors.ts';
import { Connection } from '../../src/etcd/connection.ts';
import { snapshotPieces, unlessAborted } from '../../src/etcd/snapshot-stream.ts';
import { Secret } from '../../src/secret.ts';
import { FakeMember, messagesOf, type Misbehaviour } from '../support/fake-etcd.ts';
import { DATABASE, SNAPSHOT } from '../support/fixtures.ts';
import { until } from '../support/until.ts';

const sound: Misbehaviour = async (send) => {
  for (const message of messagesOf(DATABASE)) await send(message);
};

/** Streams from a member that behaves so; returns what came and how it ended. */
async function stream(
  t: Test,
  misbehaviour: Misbehaviour,
  options: { stallMs?: number; signal?: AbortSignal; onPiece?: () => Promise<void> } = {},
): Promise<{ bytes: Buffer; error: unknown; member: FakeMember }> {
  const member = await FakeMember.start(misbehaviour);
  const connection = new Connection(member.endpoint, undefined);
  t.teardown(() => {
    connection.close();
    member.stop();
  });
  const pieces: Buffer[] = [];
  let error: unknown;
  try {
    for await (const piece of snapshotPieces(
      connection,
      options.signal ?? new AbortController().signal,
      options.stallMs,
    )) {
      pieces.push(Buffer.from(piece));
      await options.onPiece?.();
    }
  } catch (thrown) {
    error = thrown;
  }
  return { bytes: Buffer.concat(pieces), error, member };
}

t.test('a valid stream has the bytes that etcdctl would save', async (t) => {
  const { bytes, error } = await stream(t, sound);
  t.equal(error, undefined);
  t.ok(bytes.equals(SNAPSHOT));
});

t.test('a member that sends only empty messages is not used', async (t) => {
  const { error, member } = await stream(t, async (send, call) => {
    await send({ remaining_bytes: 100_000, blob: DATABASE.subarray(0, 4096) });
    while (!call.cancelled) await send({ remaining_bytes: 100_000, blob: Buffer.alloc(0) });
  });
  t.match(error, { exitCode: 10, message: /sends messages without data after 4096 of 104128 bytes/ });
  await until(() => member.cancelled === 1);
  t.pass('the call is cancelled');
});

t.test('slow empty messages are no progress either', async (t) => {
  const { error } = await stream(
    t,
    async (send, call) => {
      while (!call.cancelled) {
        await send({ remaining_bytes: 100_000, blob: Buffer.alloc(0) });
        await sleep(100);
      }
    },
    { stallMs: 400 },
  );
  t.match(error, { exitCode: 10, message: /made no progress for 0.4 s/ });
});

t.test('a silent member is not used any longer', async (t) => {
  const { error, member } = await stream(
    t,
    async (send, call) => {
      await send({ remaining_bytes: 100_000, blob: DATABASE.subarray(0, 4096) });
      while (!call.cancelled) await sleep(50);
    },
    { stallMs: 300 },
  );
  t.match(error, { exitCode: 10, message: /made no progress for 0.3 s after 4096 of \d+ bytes/ });
  await until(() => member.cancelled === 1);
  t.pass('the call is cancelled');
});

t.test('time that the reader takes is not the member’s', async (t) => {
  let pieces = 0;
  const onPiece = async (): Promise<void> => void (pieces++ === 0 && (await sleep(2500)));
  const { error, bytes } = await stream(t, sound, { stallMs: 2000, onPiece });
  t.equal(error, undefined);
  t.equal(bytes.length, SNAPSHOT.length);
});

t.test('a stream that ends early with OK is not complete', async (t) => {
  const messages = messagesOf(DATABASE);
  for (const part of [
    messages.slice(0, -1),
    messages.slice(0, 3),
    [],
    [...messages, { remaining_bytes: 0, blob: Buffer.alloc(512) }],
  ]) {
    const { error } = await stream(t, async (send) => {
      for (const message of part) await send(message);
    });
    t.match(error, { exitCode: 10, message: /ended after \d+ of/ }, `${part.length} messages`);
  }
});

t.test('a broken connection is an etcd error', async (t) => {
  const { error } = await stream(t, async (send, call) => {
    await send({ remaining_bytes: 100_000, blob: DATABASE.subarray(0, 4096) });
    call.emit('error', { code: 14, details: 'etcdserver: server stopped' });
  });
  t.match(error, { exitCode: 10, message: /^etcd at http:.* failed/ });
});

t.test('an abort ends it at once, with its reason', async (t) => {
  const controller = new AbortController();
  const reason = new Interrupted('SIGTERM');
  setTimeout(() => controller.abort(reason), 200);
  const { error, member } = await stream(
    t,
    async (send, call) => {
      await send({ remaining_bytes: 100_000, blob: DATABASE.subarray(0, 4096) });
      while (!call.cancelled) await sleep(20);
    },
    { signal: controller.signal },
  );
  t.equal(error, reason);
  await until(() => member.cancelled === 1);
  t.pass('the call is cancelled');
});

t.test('an abort before the stream has begun is not missed', async (t) => {
  const login = Promise.withResolvers<void>();
  const member = await FakeMember.start(sound, '1', '2', [], { login: login.promise });
  const connection = new Connection(member.endpoint, undefined, { name: 'root', password: new Secret('secret') });
  t.teardown(() => {
    connection.close();
    member.stop();
  });
  const controller = new AbortController();
  const reason = new Interrupted('SIGTERM');
  const next = snapshotPieces(connection, controller.signal).next();
  while (member.passwords.length === 0) await sleep(10);
  controller.abort(reason);
  await t.rejects(next, reason);
  login.resolve();
  await sleep(300);
  t.equal(member.cancelled, member.snapshots, 'what came of it late is left');
});

t.test('a reader that leaves cancels the call', async (t) => {
  const { member } = await stream(
    t,
    async (send, call) => {
      for (const message of messagesOf(Buffer.alloc(64 * 1024 * 1024))) if (!call.cancelled) await send(message);
    },
    { onPiece: async () => Promise.reject(new Error('left')) },
  );
  await until(() => member.cancelled === 1);
  t.pass('the call is cancelled');
});

t.test('work that ignores the signal is not awaited', async (t) => {
  const reason = new Error('enough');
  const late: string[] = [];
  const dispose = (result: string): void => void late.push(result);
  t.equal(await unlessAborted(Promise.resolve('done'), new AbortController().signal, dispose), 'done');
  await t.rejects(unlessAborted(Promise.reject(new Error('failed')), new AbortController().signal, dispose), /failed/);
  const controller = new AbortController();
  const work = Promise.withResolvers<string>();
  const waiting = unlessAborted(work.promise, controller.signal, dispose);
  controller.abort(reason);
  await t.rejects(waiting, reason);
  work.resolve('late');
  await work.promise;
  t.strictSame(late, ['late'], 'but what comes of it is disposed of');
});
