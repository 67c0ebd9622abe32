import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { writeToExisting } from '../../src/monitoring/termination-message.ts';
import { mustRun, temporaryFolder } from '../support/process.ts';

const dir = temporaryFolder('termination-message');

t.test('the termination message is one line of at most 4096 bytes, with whole characters', (t) => {
  const file = join(dir, 'log');
  const left = (words: string): string => {
    writeToExisting(file, words);
    return readFileSync(file, 'utf8');
  };
  writeFileSync(file, 'x'.repeat(5000));
  t.equal(left('  short\n  words \r\n here\n'), 'short words here', 'what stood there is gone');
  for (const [character, bytes] of [
    ['x', 4096],
    ['é', 4096],
    ['…', 4095],
    ['😀', 4096],
  ] as const) {
    const text = left(character.repeat(5000));
    t.equal(Buffer.byteLength(text), bytes);
    t.match(text, new RegExp(`^${character}+$`, 'u'), 'no half character at the end');
  }
  t.equal(Buffer.byteLength(left(`a${'😀'.repeat(5000)}`)), 4093);
  t.end();
});

t.test('a FIFO without a reader and a missing file do not block the run', async (t) => {
  const pipe = join(dir, 'pipe');
  await mustRun('mkfifo', [pipe]);
  t.throws(() => writeToExisting(pipe, 'nobody reads this'), { code: 'ENXIO' });
  t.throws(() => writeToExisting(join(dir, 'missing'), 'words'), { code: 'ENOENT' });
});
