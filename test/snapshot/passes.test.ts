import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { noProgress } from '../../src/progress.ts';
import { KeyScanner } from '../../src/snapshot/keys.ts';
import { passBytes, passLeaves } from '../../src/snapshot/passes.ts';
import { openFile } from '../../src/snapshot/source.ts';
import { clusterSnapshot } from '../support/object-fixtures.ts';
import { factsOf, verify } from '../support/verify.ts';

const bytes = clusterSnapshot();
const { keyPages } = factsOf(verify(bytes));
const options = { startProgress: noProgress };
const CHANGED = { name: 'UnsafeError', message: /was changed while it was read/ };

t.test('a second pass over a file that has changed fails, whatever the sink finds', async (t) => {
  const file = join(t.testdir(), 'snapshot.db');
  for (const change of [async () => truncate(file, 0), async () => writeFile(file, Buffer.alloc(bytes.length, 0xff))]) {
    await writeFile(file, bytes);
    const source = await openFile(file, new AbortController().signal);
    const scanner = (): KeyScanner => new KeyScanner(keyPages, () => {});
    await passBytes(source, 'reading', options, scanner());
    await passLeaves(source, 'reading', options, scanner());
    await change();
    await t.rejects(passBytes(source, 'reading', options, { push: () => {} }), CHANGED);
    await t.rejects(passBytes(source, 'reading', options, scanner()), CHANGED);
    await t.rejects(passLeaves(source, 'reading', options, scanner()), CHANGED);
    const failing = (): never => {
      throw new Error('of the sink');
    };
    await t.rejects(passBytes({ ...source, assertUnchanged: async () => {} }, 'reading', options, { push: failing }), {
      message: /of the sink|has 0 bytes/,
    });
  }
});

t.test('fewer bytes than were verified are an error', async (t) => {
  const file = join(t.testdir({ 'snapshot.db': bytes }), 'snapshot.db');
  const source = await openFile(file, new AbortController().signal);
  const shorter = { ...source, read: () => source.read(4096), readPlaces: undefined };
  const expected = {
    name: 'VerificationError',
    message: `${file} has ${bytes.length - 4096} bytes; it had ${bytes.length} when it was verified.`,
  };
  await t.rejects(passBytes(shorter, 'reading', options, { push: () => {} }), expected);
});
