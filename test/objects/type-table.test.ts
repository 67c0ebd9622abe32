import { spawnSync } from 'node:child_process';
import { brotliDecompressSync } from 'node:zlib';
import t from 'tap';
import { TYPE_TABLE } from '../../src/objects/type-table.ts';
import { makeTable, pins } from '../tools/objects/make-table.ts';

const skip = spawnSync('go', ['version']).status !== 0 && 'there is no Go here';

t.test('the table is what test/tools/objects makes of the pinned versions', { skip }, (t) => {
  t.ok(pins().length >= 6);
  t.equal(JSON.stringify(makeTable()), brotliDecompressSync(Buffer.from(TYPE_TABLE, 'base64')).toString());
  t.end();
});

t.test('the table is small in the image', (t) => {
  t.ok(TYPE_TABLE.length < 400_000, String(TYPE_TABLE.length));
  t.end();
});
