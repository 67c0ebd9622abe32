import t from 'tap';
import { UploadRate } from '../../src/store/upload-rate.ts';

const RATE = 4 * 2 ** 20;

/** The most that can arrive early: what is caught up, one piece of each stream, and a millisecond by which a timer can be early. */
const EARLY = 0.1 * RATE + 2 * 65_536 + 0.001 * RATE;

t.test('all streams together are no faster than the rate, at any time', async (t) => {
  const rate = new UploadRate(RATE);
  const sources = [1, 2].map((byte) => Buffer.alloc(2 ** 20, byte));
  const arrived: { at: number; total: number }[] = [{ at: performance.now(), total: 0 }];
  const bodies = await Promise.all(
    sources.map(async (source) => {
      const pieces: Buffer[] = [];
      for await (const piece of rate.limit(source) as AsyncIterable<Buffer>) {
        arrived.push({ at: performance.now(), total: (arrived.at(-1)?.total ?? 0) + piece.length });
        pieces.push(piece);
      }
      return Buffer.concat(pieces);
    }),
  );
  t.strictSame(bodies, sources, 'the same bytes');
  const fast = arrived.flatMap((from, index) =>
    arrived.slice(index + 1).filter((to) => to.total - from.total > ((to.at - from.at) / 1000) * RATE + EARLY),
  );
  t.strictSame(fast, []);
});
