import type { ChildProcess } from 'node:child_process';
import { until } from './until.ts';
import { startWorker } from './worker.ts';

export interface BrowseServer {
  readonly worker: ChildProcess;
  readonly url: string;
  /** The messages that it has logged since it serves, with their errors. */
  readonly logged: () => string[];
}

/** A running `browse`. */
export async function startBrowse(...args: readonly string[]): Promise<BrowseServer> {
  const worker = startWorker(['browse', ...args, '--port', '0'], { SNAPSHOT_LOG_FORMAT: 'json' });
  let log = '';
  worker.stderr!.setEncoding('utf8').on('data', (piece: string) => (log += piece));
  const serving = /"url":"(http:[^"]+)".*\n/;
  await until(() => serving.test(log) || worker.exitCode !== null);
  const found = serving.exec(log);
  if (found === null) throw new Error(`browse ended: ${log}`);
  const logged = (): string[] => {
    const lines = log.slice(found.index + found[0].length).split('\n');
    return lines
      .filter((line) => line.endsWith('}'))
      .map((line) => {
        const { message, error = '' } = JSON.parse(line) as { message: string; error?: string };
        return `${message} ${error}`.trim();
      });
  };
  return { worker, url: found[1] ?? '', logged };
}
