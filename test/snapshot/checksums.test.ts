import t from 'tap';
import { combine, crc32c } from '../../src/snapshot/verify/checksums.ts';
import { KeyHash } from '../../src/snapshot/verify/checksums.ts';
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
