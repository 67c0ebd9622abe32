import t from 'tap';
import { prepareUplink } from '../support/uplink.ts';

t.test('a slow uplink does not keep etcd waiting, and a fast one leaves the disk alone', async (t) => {
  // Azurite takes less than etcd gives: what fits into memory is the most for which it is fast.
  const fast = await (await prepareUplink(t, 30)).backup(Infinity, true);
  t.equal(fast.spilledBytes, 0);
  t.strictSame(fast.left, []);

  const { backup } = await prepareUplink(t, 60);
  const slow = await backup(10_000_000, true);
  t.ok(slow.spilledBytes > 5_000_000, `${slow.spilledBytes} bytes went through the spool`);
  t.ok(slow.seconds > 5, `${slow.seconds} s for the run`);
  t.ok(slow.readTransactionSeconds < slow.seconds / 2, `${slow.readTransactionSeconds} s for etcd`);
  t.strictSame(slow.left, []);

  const waiting = await backup(10_000_000, false);
  t.equal(waiting.spilledBytes, 0);
  t.ok(waiting.readTransactionSeconds > slow.readTransactionSeconds, 'without a spool etcd waits');
});
