import t from 'tap';
import { Budget, KeyStore, Table } from '../../src/snapshot/verify/budget.ts';
import { combine, crc32c } from '../../src/snapshot/verify/crc32c.ts';
import { KeyHash } from '../../src/snapshot/verify/hash-kv.ts';
import { compareKeys, isZero } from '../../src/snapshot/verify/page.ts';
import { MessageScanner, varintFields } from '../../src/snapshot/verify/protobuf.ts';
import { Resources } from '../../src/snapshot/verify/resources.ts';
import { Random } from '../support/random.ts';

t.test('crc32c', async (t) => {
  t.equal(crc32c(Buffer.from('123456789')), 0xe3069283, 'the check value of CRC-32C');
  t.equal(crc32c(Buffer.alloc(0)), 0);
  t.equal(crc32c(Buffer.alloc(0), 5), 5);
  const random = new Random(1);
  for (const length of [0, 1, 2, 17, 4080, 16_383, 16_384, 70_000]) {
    const [a, b] = [random.bytes(random.below(100)), random.bytes(length)];
    const both = crc32c(b, crc32c(a));
    t.equal(both, crc32c(Buffer.concat([a, b])), 'goes on');
    t.equal(combine(crc32c(a), crc32c(b), length), both, `${length} bytes`);
    t.equal(combine(crc32c(a), both, length), crc32c(b), 'and back');
  }
  t.equal(combine(0, 7, 2 ** 32 - 1), 7, 'the empty start is neutral, and lengths reach 4 GiB');
});

t.test('the hash of keys', async (t) => {
  const random = new Random(2);
  const hashOf = (...parts: Buffer[]): string => {
    const hash = new KeyHash();
    hash.begin();
    for (const part of parts) hash.update(part, 0, part.length);
    hash.end();
    return `${hash.low}:${hash.high}`;
  };
  const hashOfKeys = (...keys: string[]): string => {
    const hash = new KeyHash();
    hash.begin();
    for (const key of keys) hash.updateKey(Buffer.from(key), 0, key.length);
    hash.end();
    return `${hash.low}:${hash.high}`;
  };
  const seen = new Set<string>();
  for (let i = 0; i < 2000; i++) {
    const bytes = random.bytes(random.below(40));
    const [from, to] = [random.below(bytes.length + 1), random.below(bytes.length + 1)].toSorted((a, b) => a - b);
    const parts = [bytes.subarray(0, from), bytes.subarray(from, to), bytes.subarray(to)];
    if (hashOf(...parts) !== hashOf(bytes)) t.fail(`${from}, ${to} of ${bytes.toString('hex')}`);
    seen.add(hashOf(Buffer.from(`key-${i}`)));
  }
  t.equal(seen.size, 2000, 'no two are equal');
  t.not(hashOf(Buffer.alloc(3)), hashOf(Buffer.alloc(4)), 'length matters');
  t.not(hashOfKeys('ab', 'c'), hashOfKeys('a', 'bc'), 'borders of keys matter');
  t.not(hashOfKeys('a', 'b'), hashOfKeys('b', 'a'), 'order matters');
});

t.test('protobuf messages', async (t) => {
  const scan = (hex: string, pieceSize = 1000) => {
    const bytes = Buffer.from(hex.replaceAll(' ', ''), 'hex');
    let first = '';
    const scanner = new MessageScanner({
      beginFirst: (length) => void (first = `${length}:`),
      partOfFirst: (part, from, to) => void (first += part.toString('latin1', from, to)),
    });
    scanner.begin();
    for (let at = 0; at < bytes.length; at += pieceSize) {
      scanner.feed(bytes, at, Math.min(at + pieceSize, bytes.length));
    }
    const { numberFields, bytesFields, otherFields } = scanner;
    return { ok: scanner.end(), first, third: scanner.number(3), numberFields, bytesFields, otherFields };
  };
  const record = '0a 03 61 62 63 10 05 18 ac02 20 01 2a 02 ffff 30 ffffffffffffffffff01';
  const sound = {
    ok: true,
    first: '3:abc',
    third: 300,
    numberFields: 0b101_1100,
    bytesFields: 0b10_0010,
    otherFields: 0,
  };
  for (const pieceSize of [1000, 1, 2, 5]) t.strictSame(scan(record, pieceSize), sound, `${pieceSize} bytes at a time`);
  t.ok(scan('').ok, 'an empty message');
  t.match(scan('0a 00'), { ok: true, first: '0:' });
  t.match(scan('19 0000000000000000 45 00000000'), { ok: true, third: 0, otherFields: 0b1000 }, 'fixed sizes');
  t.ok(scan('a2 06 01 00 18 01').ok, 'an unknown field');
  t.equal(scan('18 ffffffffffffff0f').third, 2 ** 53 - 1, 'exact up to here');
  t.equal(scan('1a 00').third, 0, 'no number');
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

t.test('resources', async (t) => {
  const resources = new Resources();
  const nameOf = (key: string): string => {
    const bytes = Buffer.from(`-${key}-`);
    return resources.name(resources.classify(bytes, 1, bytes.length - 1));
  };
  const names: Record<string, string> = {
    '/registry/pods/default/web-1': 'pods',
    '/registry/pods/default/web-2': 'pods',
    '/registry/services/specs/default/web': 'services/specs',
    '/registry/services/endpoints/default/web': 'services/endpoints',
    '/registry/servicesx/specs/a': 'servicesx',
    '/registry/apiregistration.k8s.io/apiservices/v1.apps': 'apiregistration.k8s.io/apiservices',
    '/registry/example.com/lonely': 'example.com',
    '/registry/masterleases/10.0.0.1': 'masterleases',
    '/registry/minions/node-1': 'minions',
    '/registry/health': '(other)',
    '/registry/': '(other)',
    '/registry//x': '(other)',
    '/registrx/pods/a': '(other)',
    compact_rev_key: '(other)',
    '': '(other)',
    [`/registry/${'x'.repeat(300)}/a`]: '(other)',
  };
  for (const [key, name] of Object.entries(names)) t.equal(nameOf(key), name, key);
  t.notOk(resources.full);
});

t.test('stores within a budget', async (t) => {
  const budget = new Budget(100_000);
  const table = new Table(budget, 3);
  const rows = Uint32Array.from({ length: 90 }, (_, i) => i);
  for (let first = 0; first < 2100; first += 30) t.equal(table.append(rows, 30), first);
  t.strictSame(
    [table.get(1023, 0), table.get(1024, 2), table.get(2099, 1)],
    [(1023 % 30) * 3, (1024 % 30) * 3 + 2, 88],
  );
  table.set(5, 1, 0xffff_ffff);
  t.equal(table.get(5, 1), 0xffff_ffff);
  while (table.append(rows, 30) >= 0);
  t.equal(table.append(rows, 30), -1, 'the budget is used up');
  t.ok(budget.peak <= 100_000);
  const keys = new KeyStore(budget);
  t.equal(keys.reserve(10), -1);
  table.clear();
  t.equal(keys.reserve(65_536), 0);
  t.equal(keys.reserve(1), -1);
  t.equal(table.length, 0);
});

t.test('bytes of pages', async (t) => {
  const compare = (a: string, b: string): number =>
    Math.sign(compareKeys(Buffer.from(`-${a}`), 1, a.length, Buffer.from(`--${b}`), 2, b.length));
  t.strictSame([compare('a', 'b'), compare('b', 'a'), compare('a', 'a')], [-1, 1, 0]);
  t.strictSame([compare('a', 'aa'), compare('aa', 'a'), compare('', 'a')], [-1, 1, -1]);
  const bytes = Buffer.alloc(200_000);
  t.ok(isZero(bytes, 0, bytes.length));
  t.ok(isZero(bytes, 7, 7));
  bytes[150_000] = 1;
  t.notOk(isZero(bytes, 100, bytes.length));
  t.ok(isZero(bytes, 100, 150_000));
  t.ok(isZero(bytes, 150_001, bytes.length));
});
