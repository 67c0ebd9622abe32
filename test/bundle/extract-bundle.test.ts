import { mkdirSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { ArchiveEntry } from '../../src/bundle/archive.ts';
import { extractBundle } from '../../src/bundle/extract-bundle.ts';
import { temporaryFolder } from '../support/process.ts';

const dir = temporaryFolder('extract');
const { signal } = new AbortController();

function file(path: string): ArchiveEntry {
  return { path, type: 'File', mode: 0o600, mtime: new Date(1e12), content: Buffer.from(path), target: undefined };
}

/** Does something when the content of the file is written. */
function fileThat(path: string, act: () => void): ArchiveEntry {
  return {
    ...file(path),
    get content() {
      act();
      return Buffer.from(path);
    },
  };
}

t.test('an extraction that is interrupted leaves nothing', async (t) => {
  const controller = new AbortController();
  const stop = fileThat('etc/b', () => controller.abort(new Error('interrupted')));
  const out = join(dir, 'interrupted');
  await t.rejects(
    extractBundle([file('a'), file('etc/a'), stop, file('etc/c')], out, controller.signal),
    /interrupted/,
  );
  t.strictSame(await readdir(out), []);
});

t.test('what another program creates in the directory stays as it is', async (t) => {
  const out = join(dir, 'shared');
  let isFirst = true;
  const late = fileThat('a', () => {
    if (isFirst) mkdirSync(join(out, 'z'));
    isFirst = false;
  });
  await t.rejects(extractBundle([late, file('z')], out, signal), { name: 'UnsafeError', exitCode: 20 });
  t.strictSame(await readdir(out), ['z']);
});

t.test('of several extractions to one directory one succeeds at most, and keeps its files', async (t) => {
  const entries = Array.from({ length: 20 }, (_, index) => file(`etc/${index % 4}/${index}`));
  for (let round = 0; round < 20; round++) {
    const out = join(dir, `round-${round}`);
    const ends = await Promise.allSettled([1, 2, 3].map(async () => extractBundle(entries, out, signal)));
    const done = ends.filter(({ status }) => status === 'fulfilled').length;
    t.equal(done, 1);
    for (const { path } of entries) t.equal(await readFile(join(out, path), 'utf8'), path);
  }
});
