import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statfsSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Finished {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly ms: number;
}

export type Variables = Readonly<Record<string, string>>;

/** Variables of our environment that must change no test: the worker's own, proxies, and the colours that tap asks for. */
const NOT_INHERITED = /^(SNAPSHOT|AZURE|IDENTITY)_|_PROXY$|^(FORCE_COLOR|NO_COLOR|NODE_DISABLE_COLORS)$/i;

/**
 * Starts a program. A developer's settings and terminal do not reach it, nor the loaders, with signal handlers of their own,
 * that the test runner forces upon every Node it sees spawned.
 */
export function launch(
  command: string,
  args: readonly string[],
  variables: Variables = {},
  cwd?: string,
  stdio: readonly ('ignore' | 'pipe' | 'inherit')[] = ['ignore', 'pipe', 'pipe'],
): ChildProcess {
  const inherited = Object.entries(process.env).filter(([name]) => !NOT_INHERITED.test(name));
  return spawn('env', ['-u', 'NODE_OPTIONS', command, ...args], {
    env: { ...Object.fromEntries(inherited), ...variables },
    cwd,
    stdio: [...stdio],
  });
}

/** Runs a program to its end. */
export async function run(
  command: string,
  args: readonly string[],
  variables: Variables = {},
  cwd?: string,
): Promise<Finished> {
  return collect(launch(command, args, variables, cwd));
}

/** Bytes that must be free in memory before tests take it for a disk. */
const ROOM = 8 * 1024 ** 3;

/**
 * A new folder that is removed when the process ends: in memory where there is room, for a disk that others keep busy lets
 * etcd wait for seconds.
 */
export function temporaryFolder(name: string): string {
  return folderIn(hasRoom('/dev/shm') ? '/dev/shm' : tmpdir(), name);
}

/** The same on a disk, for what is written from within a container counts as its memory elsewhere. */
export function folderOnDisk(name: string): string {
  return folderIn(tmpdir(), name);
}

function folderIn(parent: string, name: string): string {
  const folder = mkdtempSync(join(parent, `etcd-snapshot-${name}-`));
  folders.add(folder);
  return folder;
}

function hasRoom(dir: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(dir);
    return bavail * bsize > ROOM;
  } catch {
    return false;
  }
}

/** Gathers what a child prints until it ends. */
export async function collect(child: ChildProcess): Promise<Finished> {
  const start = performance.now();
  let [stdout, stderr] = ['', ''];
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { code, signal, stdout, stderr, ms: performance.now() - start };
}

/** What a process has open, on Linux: the path through `/proc`, which reaches it also without a name, and where it leads. */
export function openFiles(pid: number | 'self' | undefined): { path: string; target: string }[] {
  const fds = `/proc/${pid}/fd`;
  return listDirectory(fds).flatMap((fd) => {
    const path = join(fds, fd);
    try {
      return [{ path, target: readlinkSync(path) }];
    } catch {
      return []; // closed in between
    }
  });
}

function listDirectory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** Whether there is such a process, and it has not ended without anybody waiting for it. */
export function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** Runs a program that must succeed, and returns its standard output. */
export async function mustRun(command: string, args: readonly string[], variables: Variables = {}): Promise<string> {
  const { code, stdout, stderr } = await run(command, args, variables);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}: ${stderr}${stdout}`);
  return stdout;
}

const taken = new Set<number>();

/**
 * A port on loopback that was free a moment ago. It is below those that systems give to outgoing connections, which would
 * otherwise take it before the server does that it is for.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    if (!taken.has(port) && (await isFree(port))) {
      taken.add(port);
      return port;
    }
  }
}

async function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

const running = new Set<ChildProcess>();
const folders = new Set<string>();

// However a test or the demo ends, its servers and their files end with it.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
});
process.once('SIGINT', () => process.exit(130));
process.once('SIGTERM', () => process.exit(143));
process.once('SIGHUP', () => process.exit(129));

/** Milliseconds: also a machine that does many other things starts a server within this. */
const START_MS = 300_000;

/** A server of ours: started, waited for, stopped by its own pid. */
export class Daemon {
  readonly #child: ChildProcess;
  #output = '';

  private constructor(child: ChildProcess) {
    this.#child = child;
    running.add(child);
    child.on('close', () => running.delete(child));
    const keep = (text: string): void => {
      this.#output = (this.#output + text).slice(-20_000);
    };
    child.stdout?.setEncoding('utf8').on('data', keep);
    child.stderr?.setEncoding('utf8').on('data', keep);
  }

  /** Starts it and waits until `ready` says so. */
  static async start(
    command: string,
    args: readonly string[],
    ready: () => Promise<boolean>,
    variables: Variables = {},
  ): Promise<Daemon> {
    const daemon = new Daemon(launch(command, args, variables));
    for (const end = Date.now() + START_MS; Date.now() < end; await sleep(50)) {
      if (!daemon.running) break;
      if (await ready()) return daemon;
    }
    const { output } = daemon;
    await daemon.stop();
    throw new Error(`${command} did not become ready:\n${output}`);
  }

  /** The last of what it printed. */
  get output(): string {
    return this.#output;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  async stop(): Promise<void> {
    if (!this.running) return;
    const closed = once(this.#child, 'close');
    this.#child.kill('SIGKILL');
    await closed;
  }
}
