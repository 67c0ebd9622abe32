import { setTimeout as sleep } from 'node:timers/promises';

/** Waits until something has happened. A test whose event never comes ends with the time of its file. */
export async function until(happened: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await happened())) await sleep(20);
}

/** What is stored in the same second as a backup is taken for that of a worker that runs at the same time. */
export async function nextSecond(): Promise<void> {
  await sleep(1000 - (Date.now() % 1000));
}
