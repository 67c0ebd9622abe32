import { type ChildProcess, spawn, type SpawnOptions } from 'node:child_process';

const running = new Set<ChildProcess>();

/** Starts a program in a process group of its own: what it starts itself ends with it. */
export function startChild(program: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  const child = spawn(program, args, { ...options, detached: true });
  running.add(child);
  const forget = (): unknown => running.delete(child);
  // Closed, and not only ended: something that it started may still hold its outputs.
  child.once('close', forget).once('error', forget);
  return child;
}

/** Ends a child and all that it started, whatever they do with other signals. */
export function killChild({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It is gone.
  }
}

/** The same for all that run. */
export function killChildren(): void {
  for (const child of running) killChild(child);
}
