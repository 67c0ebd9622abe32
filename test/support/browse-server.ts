import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { startWorker } from './worker.ts';

/** A running `browse`, and the URL that it logged. */
export async function startBrowse(...args: readonly string[]): Promise<{ worker: ChildProcess; url: string }> {
  const worker = startWorker(['browse', ...args, '--port', '0'], { SNAPSHOT_LOG_FORMAT: 'json' });
  for await (const line of createInterface(worker.stderr!)) {
    const { url } = JSON.parse(line) as { url?: string };
    if (url !== undefined) return { worker, url };
  }
  throw new Error('browse ended');
}
