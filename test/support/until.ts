import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Waits until something has happened. A test whose event never comes ends with the time of its file. Where a process is started
 * to ask, that takes a third of the time at most.
 */
export async function until(happened: () => boolean | Promise<boolean>): Promise<void> {
  for (;;) {
    const start = performance.now();
    if (await happened()) return;
    await sleep(Math.min(1000, Math.max(20, 2 * (performance.now() - start))));
  }
}

/** What is stored in the same second as a backup is taken for that of a worker that runs at the same time. */
export async function nextSecond(): Promise<void> {
  await sleep(1000 - (Date.now() % 1000));
}
