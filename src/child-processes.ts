import { type ChildProcess, spawn, type SpawnOptions, spawnSync, type StdioOptions } from 'node:child_process';
import { readdirSync, readFileSync, type Stats, statSync } from 'node:fs';

const running = new Set<ChildProcess>();

/**
 * Starts a program in a process group of its own: what it starts itself ends with it. However this process ends, the program
 * ends, too, where `setpriv` is available. Directories that are held (directories.ts) and that its arguments name are open
 * in the program under the same numbers.
 */
export function startChild(
  program: string,
  args: readonly string[],
  { stdio, ...options }: SpawnOptions & { readonly stdio: readonly ('ignore' | 'pipe' | number)[] },
): ChildProcess {
  const command = [...(diesWithUs() ? [SETPRIV, ...WITH_PARENT] : []), program, ...args];
  const child = spawn(command[0] ?? program, command.slice(1), {
    ...{ ...options, detached: true },
    stdio: withHeld(stdio, [...args, String(options.cwd ?? '')]),
  });
  running.add(child);
  const forget = (): unknown => running.delete(child);
  // Closed, and not only ended: something that it started can still hold its outputs.
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

/** Ends the programs of this name that work in a directory which only this user can enter: those of a run that was killed. */
export function killWorkersIn(dir: Stats, program: string): void {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const { dev, ino } = statSync(`/proc/${pid}/cwd`);
      const isThere = dev === dir.dev && ino === dir.ino;
      if (isThere && readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === program) process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It is another user's, or gone.
    }
  }
}

/** Of util-linux; that of BusyBox, and old ones, do not have the option. */
const SETPRIV = '/usr/bin/setpriv';
const WITH_PARENT = ['--pdeathsig', 'KILL', '--'];

let dies: boolean | undefined;

/** Whether children can be made to end when this process is killed. In a container all processes end with the first one. */
function diesWithUs(): boolean {
  dies ??= spawnSync(SETPRIV, [...WITH_PARENT, '/bin/true'], { env: {}, stdio: 'ignore' }).status === 0;
  return dies;
}

function withHeld(stdio: readonly ('ignore' | 'pipe' | number)[], texts: readonly string[]): StdioOptions {
  const held = texts.flatMap((text) => [...text.matchAll(/\/proc\/self\/fd\/(\d+)/g)].map(([, fd]) => Number(fd)));
  return Array.from({ length: Math.max(stdio.length, ...held.map((fd) => fd + 1)) }, (_, fd) =>
    held.includes(fd) ? fd : (stdio[fd] ?? 'ignore'),
  );
}
