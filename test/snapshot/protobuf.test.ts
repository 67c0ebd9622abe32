import t from 'tap';
import { KeyHash } from '../../src/snapshot/verify/checksums.ts';
import { varintFields } from '../../src/snapshot/verify/etcd-buckets.ts';
import { KEY_VALUE, MessageScanner } from '../../src/snapshot/verify/leaf-entries.ts';

function resultOf(hash: KeyHash): string {
  hash.end();
  return `${hash.low}:${hash.high}`;
}

t.test('protobuf messages', async (t) => {
  const scan = (hex: string, pieceSize = 1000) => {
    const bytes = Buffer.from(hex.replaceAll(' ', ''), 'hex');
    const scanner = new MessageScanner();
    scanner.begin(KEY_VALUE, true);
    for (let at = 0; at < bytes.length; at += pieceSize) {
      scanner.feed(bytes, at, Math.min(at + pieceSize, bytes.length));
    }
    const { fields, firstLength } = scanner;
    const first = firstLength > 0 ? `${firstLength}:${resultOf(scanner.first)}` : '';
    return { ok: scanner.end(), first, third: scanner.number(3), fields };
  };
  const record = '0a 03 61 62 63 10 05 18 ac02 20 01 2a 02 ffff 30 ffffffffffffffffff01';
  const abc = new KeyHash();
  abc.begin();
  abc.update(Buffer.from('abc'), 0, 3);
  const valid = { ok: true, first: `3:${resultOf(abc)}`, third: 300, fields: 0b111_1110 };
  for (const pieceSize of [1000, 1, 2, 5]) t.strictSame(scan(record, pieceSize), valid, `${pieceSize} bytes at a time`);
  t.ok(scan('').ok, 'an empty message');
  t.match(scan('0a 00'), { ok: true, first: '' });
  t.ok(scan('a2 06 01 00 18 01').ok, 'an unknown field');
  t.ok(scan('41 0000000000000000 45 00000000').ok, 'unknown fields of fixed sizes');
  t.equal(scan('18 ffffffffffffff0f').third, 2 ** 53 - 1, 'exact up to here');
  const broken = {
    'cut in a number': '18 80',
    'cut in a tag': 'a2',
    'cut in a length': '0a 80',
    'cut in bytes': '0a 03 61',
    'a number too long': '18 ffffffffffffffffffff01',
    'a number too large': '18 ffffffffffffffffff02',
    'field 0': '00 00',
    'a group': '1b 1c',
    'the same field twice': '18 01 18 01',
    'the same field in two types': '18 01 1a 00',
    'bytes for a number': '1a 00',
    'a fixed size for a number': '19 0000000000000000',
  };
  for (const [name, hex] of Object.entries(broken)) t.notOk(scan(hex).ok, name);

  t.strictSame(
    varintFields(Buffer.from('08ffffffffffffffffff011001', 'hex')),
    new Map([
      [1, 2n ** 64n - 1n],
      [2, 1n],
    ]),
  );
  t.strictSame(varintFields(Buffer.alloc(0)), new Map());
  for (const hex of ['08', '0a00', '0880', '08ffffffffffffffffff02', '0001']) {
    t.equal(varintFields(Buffer.from(hex, 'hex')), undefined, hex);
  }
});
