import { readFileSync, statfsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { collect, launch, type Variables } from '../test/support/process.ts';
import { MB } from './figures.ts';

/** What commands cost, one after the other, with all processes that they start. */
export interface Cost {
  /** Seconds. */
  readonly wall: number;
  /** Seconds of user and system time. */
  readonly cpu: number;
  /** Seconds for which any processor of the machine worked, for whomever: the servers that are asked work, too. */
  readonly machine: number;
  /** MiB: the largest sum of what the living processes held (VmRSS, mapped files included), but no less than VmHWM of any. */
  readonly rss: number;
  /** MB of files on a disk; undefined where the folder is in memory, for which the kernel keeps no count. */
  readonly written: number | undefined;
}

export type Command = readonly string[];

const TMPFS = 0x01021994;
/** Of the kernel's clock in /proc/stat. */
const TICKS_PER_SECOND = 100;
const SAMPLE_MS = 20;
const LOAD_MS = 3000;

/** Those whose processes end with this one. */
const running = new Set<number>();
process.on('exit', () => {
  for (const root of running) for (const pid of [root, ...treeOf(root)]) kill(pid);
});

/**
 * Runs commands as a shell runs a script, which stops at the first that fails. bash tells the time of all that it waited for,
 * and the kernel adds the bytes that they wrote to its own.
 * @param folder where they run, and where their temporary files go
 */
export async function measure(commands: readonly Command[], variables: Variables, folder: string): Promise<Cost> {
  const steps = commands.map((command) => command.map(quote).join(' ')).join(' && ');
  const script = [
    "exec 3>&2; TIMEFORMAT='time: %R %U %S'",
    `{ time { ${steps}; } 2>&3; } 2>&1; status=$?`,
    'echo "$(</proc/$$/io)"; exit $status',
  ];
  const workedBefore = worked();
  const child = launch('bash', ['-c', script.join('\n')], { TMPDIR: folder, ...variables }, folder);
  const { pid = NaN } = child;
  running.add(pid);
  const memory = new MemoryWatch(pid);
  const { code, stdout, stderr } = await collect(child);
  running.delete(pid);
  const rss = memory.end();
  const machine = worked() - workedBefore;
  if (code !== 0) throw new Error(`${steps} ended with ${code}: ${stderr}${stdout}`);
  const [, wall, user, system] = /^time: (\S+) (\S+) (\S+)$/m.exec(stdout) ?? [];
  const written = Number(/^write_bytes: (\d+)$/m.exec(stdout)?.[1]);
  return {
    wall: Number(wall),
    cpu: Number(user) + Number(system),
    machine,
    rss,
    written: statfsSync(folder).type === TMPFS ? undefined : written / MB,
  };
}

/** Looks at all processes below one, again and again. */
class MemoryWatch {
  readonly #timer: NodeJS.Timeout;
  #peak = 0;

  constructor(root: number) {
    this.#timer = setInterval(() => this.#look(root), SAMPLE_MS);
  }

  /** MiB. */
  end(): number {
    clearInterval(this.#timer);
    return this.#peak / 1024;
  }

  #look(root: number): void {
    let sum = 0;
    for (const pid of treeOf(root)) {
      const status = read(`/proc/${pid}/status`);
      sum += kib(status, 'VmRSS');
      this.#peak = Math.max(this.#peak, kib(status, 'VmHWM'));
    }
    this.#peak = Math.max(this.#peak, sum);
  }
}

/** The share of all processors that others use at the moment. */
export async function otherLoad(): Promise<number> {
  const [before, start] = [worked(), performance.now()];
  await sleep(LOAD_MS);
  return (worked() - before) / ((performance.now() - start) / 1000) / availableParallelism();
}

/** Seconds of all processors since the machine began. */
function worked(): number {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = read('/proc/stat')
    .split(/\s+/, 8)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softirq) / TICKS_PER_SECOND;
}

function treeOf(root: number): number[] {
  const children = read(`/proc/${root}/task/${root}/children`).split(' ').filter(Boolean).map(Number);
  return [...children, ...children.flatMap(treeOf)];
}

function kib(status: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0);
}

/** Processes end while one looks at them. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
