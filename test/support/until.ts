import { setTimeout as sleep } from 'node:timers/promises';

/** Waits until something has happened. A test whose event never comes ends with the time of its file. */
export async function until(happened: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await happened())) await sleep(20);
}
