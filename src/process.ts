import { type ChildProcess, spawn, type SpawnOptions, spawnSync, type StdioOptions } from 'node:child_process';
import { on, once } from 'node:events';
import { readdirSync, readFileSync, type Stats, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { CLEAR_LINE, noProgress, progressLine, type StartProgress } from './progress.ts';
import { Secret } from './secret.ts';
import { printable } from './text.ts';

/* This process: its streams, its memory, and how it ends. */

/** How long to wait for the last lines, where their reader is slow. */
const FLUSH_MS = 500;

const MIB = 1024 * 1024;

/** Requests that wait in a worker thread: for a name server, or for a file system. */
const IN_A_THREAD = /^(FSReq|GetAddrInfoReq|GetNameInfoReq)/;

/** @throws the abort's reason if it comes before all is written. A reader can leave early, as `head` does. */
export async function writeToStdout(text: string | Buffer, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
    process.stdout.write(text, (error: NodeJS.ErrnoException | null | undefined) => {
      if (error && error.code !== 'EPIPE') reject(error);
      else resolve();
    });
  });
}

/** On a terminal, a progress line can be where the line is written. */
export function writeToStderr(line: string): void {
  process.stderr.write(process.stderr.isTTY ? `${CLEAR_LINE}${line}` : line);
}

/** Whether stdout shows colours (no-color.org). */
export function hasColours(): boolean {
  const { NO_COLOR: noColour = '', TERM: terminal } = process.env;
  return process.stdout.isTTY && noColour === '' && terminal !== 'dumb';
}

/** Waits until the last lines are written, but not long. */
export async function flush(): Promise<void> {
  const unwritten = [process.stdout, process.stderr].filter((stream) => stream.writableLength > 0);
  const written = unwritten.map(async (stream) => new Promise((resolve) => stream.write('', resolve)));
  await Promise.race([Promise.all(written), sleep(FLUSH_MS)]);
}

export function progressOnStderr(): StartProgress {
  return process.stderr.isTTY ? progressLine(process.stderr, () => performance.now()) : noProgress;
}

/**
 * Asks a yes-or-no question on the terminal; undefined without a terminal. Anything but yes is a no, including the end of
 * input.
 */
export function confirmOnTerminal(signal: AbortSignal): ((question: string) => Promise<boolean>) | undefined {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return undefined;
  return async (question) => {
    const { createInterface } = await import('node:readline/promises');
    // Without line editing the terminal itself turns Ctrl-C into a signal.
    const terminal = createInterface({ input: process.stdin, output: process.stderr, terminal: false });
    try {
      const ended = once(terminal, 'close').then(() => '');
      const answered = terminal.question(`${printable(question)} [y/N] `, { signal }).catch(() => '');
      const answer = await Promise.race([answered, ended]);
      return /^y(es)?$/i.test(answer.trim());
    } finally {
      terminal.close();
    }
  };
}

/** Asks for a passphrase on the terminal, which does not show it; undefined without a terminal. */
export function askPassphraseOnTerminal(signal: AbortSignal): ((question: string) => Promise<Secret>) | undefined {
  const { stdin, stderr } = process;
  if (!stdin.isTTY || !stderr.isTTY) return undefined;
  return async (question) => {
    // The terminal neither shows what is typed nor turns Ctrl-C into a signal: from before the question on.
    stdin.setRawMode(true);
    try {
      stderr.write(printable(question));
      let typed = '';
      for await (const [bytes] of on(stdin, 'data', { signal, close: ['end'] }) as AsyncIterable<[Buffer]>) {
        for (const character of bytes.toString()) {
          if (character === '\u0003') process.kill(process.pid, 'SIGINT');
          else if (['\r', '\n', '\u0004'].includes(character)) return new Secret(typed);
          else typed = character === '\u007f' ? typed.slice(0, -1) : typed + character;
        }
      }
      return new Secret(typed);
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      stdin.setRawMode(false);
      stdin.pause();
      stderr.write('\n');
    }
  };
}

/** Bytes of memory for the verifier. In a container with a limit, some is left for the rest of the program. */
export function memoryBudget(): number {
  const limit = process.constrainedMemory();
  const left = limit > 0 ? limit - 160 * MIB : Infinity;
  return Math.max(32 * MIB, Math.min(256 * MIB, left));
}

/** Whether Node has treated `--env-file` as its own option as well, which it does unless a `--` precedes the program. */
export function hasNodeTakenEnvFile(): boolean {
  try {
    const words = readFileSync('/proc/self/cmdline', 'utf8').split('\0').slice(0, -1);
    return words[words.length - process.argv.length] !== '--';
  } catch {
    return false;
  }
}

/** Of this program, such as `0.1.0`. */
export function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return (manifest as { version: string }).version;
}

/**
 * Ends the process and its children now. `process.exit` waits for threads, which can wait for a name server, a FIFO or a
 * network file system that never answers, and no signal helps where the process is the first of its container. Therefore,
 * where threads can be at work, the process becomes another program, which has no threads and only exits.
 * @param isForced whether something was still running
 */
export function endProcess(exitCode: number, isForced: boolean): never {
  killChildren();
  if (isForced || process.getActiveResourcesInfo().some((name) => IN_A_THREAD.test(name))) {
    const libraries = process.env['LD_LIBRARY_PATH'];
    const env = libraries === undefined ? {} : { LD_LIBRARY_PATH: libraries };
    process.execve?.(process.execPath, [process.execPath, '-e', `process.exit(${exitCode})`], env);
  }
  process.exit(exitCode);
}

const running = new Set<ChildProcess>();

/**
 * Starts a program in a process group of its own: what it starts itself ends with it. However this process ends, the program
 * ends as well, if `setpriv` is available. Directories that are held (directories.ts) and that its arguments name are open
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
