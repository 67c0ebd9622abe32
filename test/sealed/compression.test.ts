import { createHash, randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { Sealer } from '../../src/sealed/sealer.ts';
import { unseal } from '../../src/sealed/unseal.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { findJudge } from '../support/judges.ts';
import { mustRun, temporaryFolder } from '../support/process.ts';
import { Random } from '../support/random.ts';

const dir = temporaryFolder('compression');
const ZSTD = { name: 'x', encoding: 'zstd', identities: [] } as const;

/** What an upload gets of these bytes, given in pieces that are overwritten afterwards. */
async function seal(file: Buffer, pieceSize = 30_000) {
  const written: Buffer[] = [];
  const sealer = new Sealer('zstd', undefined, { write: async (piece) => void written.push(Buffer.from(piece)) });
  for (let at = 0; at < file.length; at += pieceSize) {
    const piece = Buffer.from(file.subarray(at, at + pieceSize));
    await sealer.write(piece);
    piece.fill(0xff);
  }
  const result = await sealer.finish();
  sealer.close();
  return { ...result, stored: Buffer.concat(written) };
}

/** Reads stored bytes, which come in pieces of which each one overwrites the one before. */
async function open(
  stored: Buffer,
  size: number | undefined,
  storedSha256?: string,
  pieceSize = 9000,
): Promise<Buffer> {
  const memory = Buffer.alloc(pieceSize);
  const pieces = async function* () {
    for (let at = 0; at < stored.length; at += pieceSize) {
      const length = stored.copy(memory, 0, at);
      yield memory.subarray(0, Math.min(length, pieceSize));
    }
  };
  const opened: Buffer[] = [];
  for await (const piece of unseal(pieces(), { ...ZSTD, size, storedSha256 })) opened.push(Buffer.from(piece));
  return Buffer.concat(opened);
}

t.test('what was compressed comes out again, whatever its size and pieces', async (t) => {
  const files = [0, 1, 4096, 300_000, 3_000_000].map((size) =>
    Buffer.concat([randomBytes(size >> 1), Buffer.alloc(size - (size >> 1))]),
  );
  for (const file of [...files, SNAPSHOT]) {
    for (const pieceSize of [file.length + 1, 30_000]) {
      const { stored, storedSize, storedSha256, encoding } = await seal(file, pieceSize);
      t.equal(encoding, 'zstd');
      t.equal(storedSize, stored.length);
      t.equal(storedSha256, createHash('sha256').update(stored).digest('hex'));
      t.ok((await open(stored, file.length, storedSha256)).equals(file), `${file.length} bytes`);
      t.ok((await open(stored, undefined)).equals(file), 'of unknown size');
    }
  }
});

t.test(
  'zstd reads what was written, and the other way round',
  { skip: findJudge('zstd') === undefined && 'no zstd here' },
  async (t) => {
    const { stored } = await seal(SNAPSHOT);
    await writeFile(join(dir, 'ours.zst'), stored);
    await mustRun('zstd', ['-q', '-d', join(dir, 'ours.zst')]);
    t.match(await mustRun('zstd', ['-l', '-v', join(dir, 'ours.zst')]), 'XXH64', 'it has a checksum');
    t.ok(
      (await mustRun('sha256sum', [join(dir, 'ours')])).startsWith(createHash('sha256').update(SNAPSHOT).digest('hex')),
    );
  },
);

t.test('every change of the stored bytes is found', async (t) => {
  const { stored, storedSha256 } = await seal(SNAPSHOT);
  const random = new Random(23);
  const changed = (change: number): Buffer => {
    const bytes = Buffer.from(stored);
    const at = change < 64 ? change : change < 128 ? bytes.length - (change - 63) : random.below(bytes.length);
    switch (change % 4) {
      case 0:
        return bytes.subarray(0, at);
      case 1:
        return Buffer.concat([bytes, randomBytes(at % 20 || 1)]);
      default:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << (change % 8));
        return bytes;
    }
  };
  let found = 0;
  for (let change = 0; change < 500; change++) {
    await open(changed(change), SNAPSHOT.length, storedSha256).catch((error: { exitCode?: number }) => {
      if (error.exitCode !== 11) throw error;
      found++;
    });
  }
  t.equal(found, 500);
  await t.rejects(open(zstdCompressSync(SNAPSHOT), SNAPSHOT.length, storedSha256), {
    message: 'x is not a valid snapshot: the sha256 of its blob does not match its record.',
  });
});

t.test('bytes after the end are refused, in whatever pieces they come', async (t) => {
  const { stored } = await seal(SNAPSHOT);
  for (const more of [1, 10, 9000, 200_000]) {
    for (const pieceSize of [1000, 9000, stored.length - 1, stored.length, 1_000_000]) {
      const longer = Buffer.concat([stored, randomBytes(more)]);
      await t.rejects(open(longer, undefined, undefined, pieceSize), {
        exitCode: 11,
        message: /cannot be decompressed/,
      });
    }
  }
});

t.test('no more is unpacked than the record says', async (t) => {
  const bomb = zstdCompressSync(Buffer.alloc(200 * 2 ** 20));
  t.ok(bomb.length < 100_000);
  await t.rejects(open(bomb, 1_000_000), { exitCode: 11, message: /unpacked, it is larger than 1000000 bytes/ });
  await t.rejects(open(zstdCompressSync(Buffer.alloc(10)), 11), {
    exitCode: 11,
    message: /has 10 bytes instead of 11/,
  });
});

t.test('an upload that fails ends the compression with its error', async (t) => {
  const error = new Error('no storage');
  const sealer = new Sealer('zstd', undefined, {
    write: async () => {
      throw error;
    },
  });
  const writing = async (): Promise<void> => {
    for (;;) await sealer.write(randomBytes(500_000));
  };
  await t.rejects(writing(), error);
  await t.rejects(sealer.finish(), error);
  sealer.close();
});

t.test('the error of reading is that of the opening, and a reader that leaves ends the reading', async (t) => {
  const { stored } = await seal(randomBytes(2_000_000));
  const expected = { ...ZSTD, size: 2_000_000, storedSha256: undefined };
  const error = new Error('no network');
  const failing = async function* () {
    yield stored.subarray(0, 1000);
    throw error;
  };
  const readAll = async (): Promise<void> => {
    for await (const _ of unseal(failing(), expected));
  };
  await t.rejects(readAll(), error);
  let ended = false;
  const whole = async function* () {
    try {
      for (let at = 0; at < stored.length; at += 10_000) yield stored.subarray(at, at + 10_000);
    } finally {
      ended = true;
    }
  };
  for await (const _ of unseal(whole(), expected)) break;
  t.equal(ended, true);
});
