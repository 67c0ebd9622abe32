import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { swapIn } from '../../src/commands/swap.ts';
import { createLog, Warnings } from '../../src/log.ts';
import { temporaryFolder } from '../support/process.ts';
import { stoppedMember } from '../support/users.ts';

const dir = temporaryFolder('swap-directory');

t.test('a swap that is undone within the same second', async (t) => {
  const place = join(dir, 'swapped-at-once');
  const now = new Date('2026-01-02T03:04:59.999Z');
  const { signal } = new AbortController();
  const warnings = new Warnings(createLog('json', 'error', () => {}));
  await stoppedMember(place);
  const inPlace = async (): Promise<string> => readFile(join(place, 'member/snap/db'), 'utf8');
  const old = await swapIn(place, join(place, 'restored'), now, warnings, signal);
  t.equal(old, join(place, 'old-20260102-030459'));
  t.equal(await inPlace(), 'restored');
  const undone = await swapIn(place, old ?? '', now, warnings, signal);
  t.equal(undone, join(place, 'old-20260102-030500'));
  t.equal(await inPlace(), 'old');
  await swapIn(place, undone ?? '', now, warnings, signal);
  t.equal(await inPlace(), 'restored');
  t.strictSame(await readdir(place), ['member', 'old-20260102-030459']);
});
