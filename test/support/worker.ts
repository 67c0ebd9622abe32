import type { ChildProcess } from 'node:child_process';
import { dirname, join } from 'node:path';
import type { EtcdTools } from './etcd.ts';
import { collect, type Finished, launch, type Variables } from './process.ts';

/** The built entry point, as users run it. */
export const MAIN = join(import.meta.dirname, '..', '..', 'dist', 'main.js');

/** Starts the worker in a folder without a `.env`, unless another is named. */
export function startWorker(args: readonly string[], variables: Variables, cwd = import.meta.dirname): ChildProcess {
  return launch(process.execPath, ['--', MAIN, ...args], variables, cwd);
}

export async function runWorker(args: readonly string[], variables: Variables, cwd?: string): Promise<Finished> {
  return collect(startWorker(args, variables, cwd));
}

/** The variable that puts the programs of one etcd version first on the worker's PATH. */
export function withTools({ etcd }: EtcdTools): Variables {
  return { PATH: `${dirname(etcd)}:/usr/bin:/bin` };
}

/** The last entry of a JSON log at level error. */
export function errorOf({ stderr }: Pick<Finished, 'stderr'>): { message: string; hint: string; exitCode: number } {
  const entries = stderr
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { level: string; message: string; hint: string; exitCode: number });
  const error = entries.findLast(({ level }) => level === 'error');
  if (error === undefined) throw new Error(`there is no error in: ${stderr}`);
  return error;
}
