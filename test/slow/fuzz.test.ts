import t from 'tap';
import { fuzzing } from '../support/fuzzing.ts';

/** The seeds begin here; another number tries other mutations. */
const FIRST = Number(process.env['FUZZ_FIRST'] ?? 100_000);
const MUTATIONS = Number(process.env['FUZZ_MUTATIONS'] ?? 20_000);

t.setTimeout(1_800_000);

t.test('random mutations, many times', async (t) => {
  const outcome = await fuzzing(FIRST, MUTATIONS, Infinity);
  t.strictSame(outcome.failures, []);
  t.comment(outcome);
});

t.test('the same for copies of databases, without a sha256', async (t) => {
  const outcome = await fuzzing(FIRST, MUTATIONS / 5, Infinity, 'databases');
  t.strictSame(outcome.failures, []);
  t.comment(outcome);
});
