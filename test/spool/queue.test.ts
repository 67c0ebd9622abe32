import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { createLog } from '../../src/log.ts';
import { type SpoolOptions, SpoolQueue } from '../../src/spool/queue.ts';
import { launch, openFiles } from '../support/process.ts';
import { Random } from '../support/random.ts';

const KIB = 1024;
const BLOCK = 16 * KIB;
/** Bytes that may come, for most tests: more than any of them pushes. */
const ROOM = 32 * 1024 * KIB;
const isRoot = process.getuid?.() === 0;

interface Rig {
  readonly queue: SpoolQueue;
  readonly dir: string;
  /** Messages of the level `warn`. */
  readonly warnings: string[];
}

/** A new directory, in memory where there is such a place: how full this machine's disk is must not decide a test. */
function spoolDir(t: Test): string {
  const dir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'spool-test-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  return dir;
}

/** A queue with room for four blocks of 16 KiB in memory, and a directory of its own. */
function rig(t: Test, options: Partial<SpoolOptions> = {}): Rig {
  const dir = options.dir ?? spoolDir(t);
  const warnings: string[] = [];
  const log = createLog('json', 'warn', (line) => warnings.push((JSON.parse(line) as { message: string }).message));
  const queue = new SpoolQueue({
    dir,
    memoryBytes: 4 * BLOCK,
    blockSize: BLOCK,
    log,
    remaining: () => ROOM,
    ...options,
  });
  t.teardown(async () => queue.close());
  return { queue, dir, warnings };
}

/** Bytes of which no four repeat, so that none can be missing, doubled or misplaced. */
function stream(length: number): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4));
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i, 0x9e3779b1);
  return Buffer.from(words.buffer, 0, length);
}

async function pushAll(queue: SpoolQueue, bytes: Buffer, pieceSize = 5000, pace = async () => {}): Promise<void> {
  for (let at = 0; at < bytes.length; at += pieceSize) {
    await queue.push(bytes.subarray(at, at + pieceSize));
    await pace();
  }
  queue.end();
}

async function drain(queue: AsyncIterable<Buffer>): Promise<Buffer> {
  const blocks: Buffer[] = [];
  for await (const block of queue) blocks.push(block);
  return Buffer.concat(blocks);
}

/** Records are written while the producer goes on: waits until so many bytes are on the disk. */
async function spilled(queue: SpoolQueue, bytes: number): Promise<void> {
  while (queue.spilledBytes < bytes) await turn();
}

/** Whether it is still pending after a while that is long for a disk. */
async function isWaiting(promise: Promise<unknown>): Promise<boolean> {
  return (await Promise.race([promise.catch(() => undefined), sleep(80, 'waiting')])) === 'waiting';
}

/** Open files below `dir` that have no name any more, as paths that reach them. */
function unlinkedFiles(dir: string, pid: number | 'self' = 'self'): string[] {
  return openFiles(pid)
    .filter(({ target }) => target.startsWith(dir) && target.endsWith(' (deleted)'))
    .map(({ path }) => path);
}

/** The spool file, when there is exactly one. */
function spoolFile(dir: string): string {
  const [file, ...others] = unlinkedFiles(dir);
  if (file === undefined || others.length > 0) throw new Error('there is not one spool file');
  return file;
}

function overwrite(file: string, offset: number, bytes: Uint8Array): void {
  const fd = openSync(file, 'r+');
  writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
}

/** A small file system of its own in memory, or undefined where we may not mount one. */
function mountTmpfs(t: Test, options: string): string | undefined {
  if (!isRoot) return undefined;
  const dir = mkdtempSync(join(tmpdir(), 'spool-test-'));
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', dir]);
  t.teardown(() => {
    // Lazily: an assertion that failed may have left a file open.
    if (status === 0) spawnSync('umount', ['-l', dir]);
    rmdirSync(dir);
  });
  return status === 0 ? dir : undefined;
}

t.test('the bytes that come out are those that went in, in their order, at any speed of both sides', async (t) => {
  const home = spoolDir(t);
  let [spilled, drained] = [0, 0];
  for (let seed = 1; seed <= 60; seed++) {
    const random = new Random(seed);
    const blockSize = random.of([1, 1000, 4096, BLOCK]);
    const memoryBytes = random.of([0, 1, 2, 5]) * blockSize;
    const bytes = stream(random.below(blockSize * 200));
    const dir = random.below(8) === 0 ? undefined : home;
    let [taken, hasWaited] = [0, false];
    const { queue } = rig(t, { dir, memoryBytes, blockSize });
    /** Now and then slow, now and then fast, now and then as fast as it goes. */
    const pace = async (): Promise<void> => {
      const kind = random.below(60);
      if (kind === 0) await sleep(random.below(6));
      else if (kind < 20) await turn();
    };
    const producer = (async (): Promise<void> => {
      for (let at = 0; at < bytes.length;) {
        const piece = Buffer.from(bytes.subarray(at, (at += random.below(blockSize * random.of([1, 1, 3])) + 1)));
        await queue.push(piece);
        await pace();
        if (seed % 3 > 0 || hasWaited || at < bytes.length / 2) continue;
        // The consumer catches up: what follows goes through memory again.
        while (taken < Math.min(at, bytes.length)) await turn();
        hasWaited = true;
        if (queue.spilledBytes > 0) drained++;
      }
      queue.end();
    })();
    const blocks: Buffer[] = [];
    for await (const block of queue) {
      blocks.push(block);
      taken += block.length;
      await pace();
    }
    await producer;
    if (!Buffer.concat(blocks).equals(bytes)) t.fail('other bytes', { seed });
    if (queue.spilledBytes > 0) spilled++;
  }
  t.ok(spilled > 20, `${spilled} runs went through the disk`);
  t.ok(drained > 5, `${drained} of them came back to memory`);
  t.strictSame(readdirSync(home), []);
  t.strictSame(unlinkedFiles(home), []);
});

t.test('memory, file and memory again, several times', async (t) => {
  const { queue, dir, warnings } = rig(t);
  const bytes = stream(40 * 30 * BLOCK);
  const blocks: Buffer[] = [];
  const reader = queue[Symbol.asyncIterator]();
  let [pushed, taken] = [0, 0];
  for (let round = 0; round < 40; round++) {
    await queue.push(bytes.subarray(pushed, (pushed += 30 * BLOCK)));
    // Every fourth round all is taken, in the others a bit less than came.
    for (const until = round % 4 === 3 ? pushed : pushed - 12 * BLOCK; taken < until;) {
      const { value } = await reader.next();
      if (value === undefined) throw new Error('ended early');
      taken += value.length;
      blocks.push(value);
    }
  }
  t.ok(Buffer.concat(blocks).equals(bytes));
  t.ok(queue.spilledBytes > 500 * BLOCK);
  t.ok(statSync(spoolFile(dir)).size <= 45 * BLOCK, 'room in the file is used again');
  queue.end();
  t.match(await reader.next(), { done: true, value: undefined });
  t.strictSame(unlinkedFiles(dir), []);
  t.strictSame(warnings, []);
});

t.test('no byte and no file on the disk while the consumer keeps up', async (t) => {
  const { queue, dir, warnings } = rig(t);
  const bytes = stream(200 * BLOCK);
  // As from a network: between the pieces everybody else gets a turn.
  const producer = pushAll(queue, bytes, 5000, turn);
  const blocks: Buffer[] = [];
  for await (const block of queue) {
    if (readdirSync(dir).length + unlinkedFiles(dir).length > 0) t.fail('a file');
    blocks.push(block);
  }
  await producer;
  t.ok(Buffer.concat(blocks).equals(bytes));
  t.equal(queue.spilledBytes, 0);
  t.strictSame(warnings, []);
});

t.test('no byte on the disk while the waiting data fits into memory', async (t) => {
  const { queue, dir } = rig(t);
  await queue.push(stream(5 * BLOCK));
  t.equal(queue.spilledBytes, 0);
  t.strictSame(unlinkedFiles(dir), []);
  await queue.push(Buffer.alloc(1));
  await spilled(queue, 1);
  t.equal(queue.spilledBytes, BLOCK, 'a byte more than that spills a block');
  t.equal(unlinkedFiles(dir).length, 1);
});

t.test('the end without any bytes', async (t) => {
  const { queue } = rig(t);
  await queue.push(Buffer.alloc(0));
  queue.end();
  t.equal((await drain(queue)).length, 0);
  await t.rejects(queue.push(Buffer.alloc(1)), /has ended/);
});

t.test('the file has no name, is ours alone, and nothing in it can be read', async (t) => {
  const { queue, dir } = rig(t);
  const marker = 'kubernetes.io/service-account-token ';
  const bytes = Buffer.alloc(20 * BLOCK, marker);
  await pushAll(queue, bytes);
  await spilled(queue, 15 * BLOCK);
  t.strictSame(readdirSync(dir), []);
  const file = spoolFile(dir);
  const { mode, nlink, size } = statSync(file);
  t.equal((mode & 0o777).toString(8), '600');
  t.equal(nlink, 0);
  t.equal(size, queue.spilledBytes);
  const onDisk = readFileSync(file);
  t.equal(onDisk.length, 15 * BLOCK);
  t.notOk(onDisk.includes(marker.slice(0, 8)));
  const blocks = Array.from({ length: 15 }, (_, i) => onDisk.toString('hex', i * BLOCK, (i + 1) * BLOCK));
  t.equal(new Set(blocks).size, 15, 'and equal blocks do not look equal');
  t.ok((await drain(queue)).equals(bytes));
  t.strictSame(unlinkedFiles(dir), []);
});

t.test('a spool file that gives other bytes back ends the run', async (t) => {
  const changes: Record<string, { change: (file: string) => void; message: RegExp }> = {
    'one bit': {
      change: (file) => overwrite(file, 5, Uint8Array.of((readFileSync(file)[5] ?? 0) ^ 1)),
      message: /does not contain the bytes/,
    },
    'records exchanged': {
      change: (file) => overwrite(file, 0, readFileSync(file).subarray(BLOCK, 2 * BLOCK)),
      message: /does not contain the bytes/,
    },
    'cut off': { change: (file) => truncateSync(file, 100), message: /cannot be read: the file is shorter/ },
  };
  for (const [name, { change, message }] of Object.entries(changes)) {
    const { queue, dir } = rig(t);
    const bytes = stream(20 * BLOCK);
    await pushAll(queue, bytes);
    await spilled(queue, 15 * BLOCK);
    change(spoolFile(dir));
    let taken = 0;
    const reading = (async (): Promise<void> => {
      for await (const block of queue) taken += block.length;
    })();
    await t.rejects(reading, { name: 'SpoolError', exitCode: 1, hint: /SNAPSHOT_SPOOL_DIR/, message }, name);
    t.equal(taken, 4 * BLOCK, 'only what was in memory came');
    t.strictSame(unlinkedFiles(dir), []);
  }
});

t.test('an old record is not taken for the new one at its place', async (t) => {
  const { queue, dir } = rig(t, { memoryBytes: 0 });
  const reader = queue[Symbol.asyncIterator]();
  await queue.push(stream(2 * BLOCK));
  await spilled(queue, BLOCK);
  const old = readFileSync(spoolFile(dir));
  t.equal((await reader.next()).value?.length, BLOCK);
  await queue.push(stream(BLOCK));
  await spilled(queue, 2 * BLOCK);
  t.equal(statSync(spoolFile(dir)).size, BLOCK, 'the place was used again');
  overwrite(spoolFile(dir), 0, old);
  await t.rejects(reader.next(), /does not contain the bytes/);
});

t.test('where the disk cannot be used etcd waits, and nothing is lost', async (t) => {
  const cases: Record<string, { options: Partial<SpoolOptions>; warning: RegExp; around?: typeof asNobody }> = {
    'no directory set': { options: { dir: undefined }, warning: /etcd has to wait: .*SNAPSHOT_SPOOL_DIR is not set/ },
    'no such directory': { options: { dir: join(spoolDir(t), 'gone') }, warning: /ENOENT/ },
    'not a directory': { options: { dir: '/dev/null' }, warning: /ENOTDIR/ },
    'no right to write': { options: {}, warning: /EACCES/, around: asNobody },
    'too little room for what is to come': {
      options: { remaining: () => 2 ** 52 },
      warning: /: it needs up to \d+ bytes, but has only \d+ with 20 % left free/,
    },
  };
  const readOnly = mountTmpfs(t, 'ro,size=1m');
  if (readOnly !== undefined)
    cases['a read-only file system'] = { options: { dir: readOnly }, warning: /EROFS|needs up to/ };
  for (const [name, { options, warning, around }] of Object.entries(cases)) {
    await t.test(name, async (t) => {
      const { queue, dir, warnings } = rig(t, options);
      const bytes = stream(60 * BLOCK);
      const test = async (): Promise<void> => {
        const producer = pushAll(queue, bytes);
        t.ok(await isWaiting(producer));
        const reader = queue[Symbol.asyncIterator]();
        const first = await reader.next();
        t.ok(await isWaiting(producer));
        t.ok(Buffer.concat([first.value ?? Buffer.alloc(0), await drain(reader)]).equals(bytes));
        await producer;
      };
      await (around ?? (async (work) => work()))(test, dir);
      t.equal(queue.spilledBytes, 0);
      t.equal(warnings.length, 1, 'said once');
      t.match(warnings[0], warning);
      if (statSync(dir, { throwIfNoEntry: false })?.isDirectory() === true) t.strictSame(readdirSync(dir), []);
      t.strictSame(unlinkedFiles(dir), []);
    });
  }
});

/** Root may write everywhere, so the work is done as a user that may not. */
async function asNobody(work: () => Promise<void>, dir: string): Promise<void> {
  spawnSync('chmod', ['555', dir]);
  if (isRoot) process.seteuid?.(65534);
  try {
    await work();
  } finally {
    if (isRoot) process.seteuid?.(0);
    spawnSync('chmod', ['755', dir]);
  }
}

t.test('a disk that fills up in the middle of a record loses nothing', async (t) => {
  const dir = mountTmpfs(t, 'size=4m');
  if (dir === undefined) {
    t.comment('only root may mount a file system that is small enough to fill');
    return;
  }
  // Blocks that are no multiple of a page, so that the last write is a partial one.
  // A reserve below zero: only the disk itself says that it is full, as where others take the last of it.
  const reserve = { bytes: -ROOM };
  const { queue, warnings } = rig(t, { dir, reserve, blockSize: 70_001, memoryBytes: 300_000 });
  const bytes = stream(12_000_000);
  const producer = pushAll(queue, bytes, 32 * KIB);
  while (warnings.length === 0) await turn();
  t.ok(await isWaiting(producer));
  t.match(warnings, [/etcd has to wait: ENOSPC/]);
  t.ok(queue.spilledBytes > 3_900_000, `${queue.spilledBytes} bytes spilled`);
  t.equal(queue.spilledBytes % 70_001, 0);
  t.equal(statSync(spoolFile(dir)).size % 4096, 0, 'a part of a record was written');
  const blocks: Buffer[] = [];
  let taken = 0;
  for await (const block of queue) {
    blocks.push(block);
    taken += block.length;
    if (taken > 6_000_000 && unlinkedFiles(dir).length > 0) t.fail('the full disk did not get its room back');
  }
  await producer;
  t.ok(Buffer.concat(blocks).equals(bytes));
  t.equal(warnings.length, 1);
});

t.test('the reserve stays free, also when others fill the disk after the file was begun', async (t) => {
  const cases: Record<string, { reserve?: SpoolOptions['reserve']; free: number; others?: number; says: RegExp }> = {
    'by default a fifth': { free: 0.2, says: /disk is full with 20 % left free \(SNAPSHOT_SPOOL_RESERVE\)/ },
    'another share': { reserve: { percent: 50 }, free: 0.5, says: /disk is full with 50 % left free/ },
    'a size': { reserve: { bytes: 6 * 1024 * KIB }, free: 0.375, says: /disk is full with 6291456 bytes left free/ },
    'others write, too': { free: 0.2, others: 8 * 1024 * KIB, says: /disk is full/ },
  };
  for (const [name, { reserve, free, others = 0, says }] of Object.entries(cases)) {
    const dir = mountTmpfs(t, 'size=16m');
    if (dir === undefined) {
      t.comment('only root may mount a file system that is small enough to fill');
      return;
    }
    const { queue, warnings } = rig(t, { dir, reserve, remaining: () => 0 });
    const bytes = stream(24_000_000);
    const producer = (async (): Promise<void> => {
      for (let at = 0; at < bytes.length; at += BLOCK) {
        if (at === 64 * BLOCK && others > 0) writeFileSync(join(dir, 'others'), Buffer.alloc(others));
        await queue.push(bytes.subarray(at, at + BLOCK));
      }
      queue.end();
    })();
    while (warnings.length === 0) await turn();
    t.match(warnings, [says], name);
    t.ok(await isWaiting(producer), name);
    const { bavail, blocks } = statfsSync(dir);
    t.ok(bavail >= blocks * free, `${name}: ${bavail} of ${blocks} are free`);
    t.ok(bavail < blocks * free + (6 * BLOCK) / 4096, `${name}: and not many more`);
    t.ok((await drain(queue)).equals(bytes), name);
    await producer;
    t.equal(warnings.length, 1);
  }
});

t.test('the file does not become much larger than the database that was to come', async (t) => {
  const { queue, dir, warnings } = rig(t, { remaining: () => 100 * BLOCK });
  const bytes = stream(24 * 1024 * KIB);
  const producer = pushAll(queue, bytes);
  while (warnings.length === 0) await turn();
  t.match(warnings, [/larger than the expected \d+ bytes/]);
  t.ok(await isWaiting(producer));
  t.ok(statSync(spoolFile(dir)).size <= 101 * BLOCK + 16 * 1024 * KIB);
  t.ok((await drain(queue)).equals(bytes));
  await producer;
});

t.test('a process that is killed leaves nothing', async (t) => {
  const dir = spoolDir(t);
  const child = launch(process.execPath, [
    '--input-type=module',
    '-e',
    `import { SpoolQueue } from ${JSON.stringify(new URL('../../src/spool/queue.ts', import.meta.url))};
     const log = { debug() {}, info() {}, warn: console.error, error: console.error };
     const queue = new SpoolQueue({ dir: ${JSON.stringify(dir)}, memoryBytes: 0, log, remaining: () => 0 });
     await queue.push(Buffer.alloc(8 << 20, 'secret'));
     while (queue.spilledBytes < 7 << 20) await new Promise(setImmediate);
     console.log('spilled', queue.spilledBytes);
     setInterval(() => queue.spilledBytes, 1000);`,
  ]);
  t.teardown(() => child.kill('SIGKILL'));
  const [line] = (await once(child.stdout ?? child, 'data')) as [Buffer];
  t.equal(line.toString().trim(), `spilled ${7 << 20}`);
  t.equal(unlinkedFiles(dir, child.pid).length, 1);
  t.strictSame(readdirSync(dir), []);
  child.kill('SIGKILL');
  await once(child, 'close');
  t.strictSame(readdirSync(dir), []);
});

t.test('closing frees everything and ends every wait, in any state', async (t) => {
  const states: Record<string, (queue: SpoolQueue) => Promise<Promise<unknown>[]>> = {
    fresh: async () => [],
    'bytes in memory': async (queue) => {
      await queue.push(stream(3 * BLOCK));
      return [];
    },
    'bytes on disk': async (queue) => {
      await queue.push(stream(30 * BLOCK));
      return [queue.push(Buffer.alloc(BLOCK))];
    },
    'a record is being written': async (queue) => {
      const pushing = queue.push(stream(1000 * BLOCK));
      while (queue.spilledBytes === 0) await turn();
      return [pushing];
    },
    'a record is being read': async (queue) => {
      await queue.push(stream(30 * BLOCK));
      const reader = queue[Symbol.asyncIterator]();
      for (let i = 0; i < 4; i++) await reader.next();
      const reading = reader.next();
      return [reading.then(async () => reader.next())];
    },
    'the consumer waits': async (queue) => [queue[Symbol.asyncIterator]().next()],
    ended: async (queue) => {
      await pushAll(queue, stream(30 * BLOCK));
      return [drain(queue)];
    },
    failed: async (queue) => {
      queue.fail(new Error('etcd is gone'));
      return [];
    },
  };
  // Between any two of the system calls that create the file.
  for (let turns = 0; turns < 10; turns++) {
    states[`${turns} turns into the first spill`] = async (queue) => {
      const pushing = queue.push(stream(1000 * BLOCK));
      for (let i = 0; i < turns; i++) await turn();
      return [pushing];
    };
  }
  for (const [name, bring] of Object.entries(states)) {
    const { queue, dir } = rig(t);
    const waiting = await bring(queue);
    const outcomes = Promise.allSettled(waiting);
    await queue.close();
    for (const { status } of await outcomes) t.equal(status, 'rejected', name);
    t.strictSame(unlinkedFiles(dir), [], name);
    await Promise.all([queue.close(), queue.close()]);
    t.strictSame(readdirSync(dir), [], name);
    await t.rejects(queue.push(Buffer.alloc(1)), Error, name);
    await t.rejects(drain(queue), name === 'failed' ? /etcd is gone/ : /closed before its end/, name);
  }
  const { queue } = rig(t, { dir: undefined });
  const pushing = queue.push(stream(30 * BLOCK));
  t.ok(await isWaiting(pushing));
  await Promise.all([t.rejects(pushing, /no reader/), queue.close()]);
});

t.test('a failure of the producer reaches the consumer at once', async (t) => {
  const failure = new Error('etcd is gone');
  const waiting = rig(t).queue;
  const reading = drain(waiting);
  await turn();
  waiting.fail(failure);
  t.equal(await reading.catch((error: unknown) => error), failure, 'that waits');

  const { queue, dir } = rig(t);
  await queue.push(stream(30 * BLOCK));
  const reader = queue[Symbol.asyncIterator]();
  t.equal((await reader.next()).value?.length, BLOCK);
  queue.fail(failure);
  queue.fail(new Error('another'));
  t.equal(await reader.next().catch((error: unknown) => error), failure, 'that has bytes left to read');
  t.strictSame(unlinkedFiles(dir), []);
});

t.test('a consumer that leaves releases the producer', async (t) => {
  for (const dir of [undefined, spoolDir(t)]) {
    const { queue } = rig(t, { dir });
    const released = t.rejects(pushAll(queue, stream(1000 * BLOCK)), /no reader/);
    const failure = new Error('Azure is gone');
    const reading = (async (): Promise<void> => {
      for await (const block of queue) if (block.length > 0) throw failure;
    })();
    t.equal(await reading.catch((error: unknown) => error), failure);
    await released;
    if (dir !== undefined) t.strictSame(unlinkedFiles(dir), []);
  }
});
