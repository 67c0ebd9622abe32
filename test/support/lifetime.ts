import { readFileSync } from 'node:fs';

const SAMPLE_MS = 10;

/**
 * How long a process takes to end. What a run promises of its end must also hold in tests on a busy machine: the time for
 * which the process, or this one, was ready to run and had no core does not count (Linux has it in `schedstat`).
 */
export class Lifetime {
  readonly #start = performance.now();
  readonly #pids: readonly (number | 'self')[];
  readonly #before: readonly number[];
  #delays: readonly number[];
  readonly #timer: NodeJS.Timeout;

  constructor(pid: number | undefined) {
    this.#pids = ['self', pid ?? 'self'];
    this.#before = this.#pids.map((each) => delayOf(each) ?? 0);
    this.#delays = this.#before;
    this.#timer = setInterval(() => this.#sample(), SAMPLE_MS);
  }

  /** Call it when the process has ended. */
  end(): number {
    clearInterval(this.#timer);
    this.#sample();
    const waited = this.#delays.reduce((sum, delay, index) => sum + delay - (this.#before[index] ?? 0), 0);
    return Math.round(performance.now() - this.#start - waited);
  }

  /** Of a process that has ended the last sample counts. */
  #sample(): void {
    this.#delays = this.#pids.map((pid, index) => delayOf(pid) ?? this.#delays[index] ?? 0);
  }
}

/** Milliseconds for which the main thread of a process was ready to run and had no core. */
function delayOf(pid: number | 'self'): number | undefined {
  try {
    const [, delay] = readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ');
    return Number(delay) / 1e6;
  } catch {
    return undefined;
  }
}
