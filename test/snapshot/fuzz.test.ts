import t from 'tap';
import { fuzzing } from '../support/fuzzing.ts';

t.test("random mutations: no exception, not slow, nothing accepted that etcd's tool refuses", async (t) => {
  const outcome = await fuzzing(1, 1500, 15);
  t.strictSame(outcome.failures, []);
  t.comment(outcome);
});

t.test('the same for copies of databases, without a sha256', async (t) => {
  const outcome = await fuzzing(1, 1000, 15, 'databases');
  t.strictSame(outcome.failures, []);
  t.comment(outcome);
});
