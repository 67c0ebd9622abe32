import t from 'tap';
import { onAbort, unlessAborted } from '../src/abort.ts';

t.test('an abort is noticed before and after the listener is added', async (t) => {
  let calls = 0;
  const count = (): void => void calls++;
  onAbort(AbortSignal.abort(), count);
  t.equal(calls, 1, 'before');
  const controller = new AbortController();
  onAbort(controller.signal, count);
  const takeBack = onAbort(controller.signal, () => t.fail('it was taken back'));
  takeBack();
  controller.abort();
  controller.abort();
  t.equal(calls, 2, 'after, and once');
});

t.test('work that ignores the signal is not awaited', async (t) => {
  const reason = new Error('enough');
  const late: string[] = [];
  const dispose = (result: string): void => void late.push(result);
  t.equal(await unlessAborted(Promise.resolve('done'), new AbortController().signal, dispose), 'done');
  await t.rejects(unlessAborted(Promise.reject(new Error('failed')), new AbortController().signal, dispose), /failed/);
  for (const controller of [new AbortController(), undefined]) {
    const work = Promise.withResolvers<string>();
    const waiting = unlessAborted(work.promise, controller?.signal ?? AbortSignal.abort(reason), dispose);
    controller?.abort(reason);
    await t.rejects(waiting, reason);
    work.resolve('late');
    await work.promise;
  }
  t.strictSame(late, ['late', 'late'], 'but what comes of it is disposed of');
  await t.rejects(unlessAborted(Promise.reject(new Error('failed')), AbortSignal.abort(reason), dispose), reason);
});
