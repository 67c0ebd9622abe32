import { humanAge, humanSize, printable } from './text.ts';

/** Shows the progress of one piece of work. */
interface Progress {
  advance(amount: number): void;
  end(): void;
}

/**
 * @param total bytes; undefined where only the time counts: advance by 0 to show it
 * @param show shows an amount, where it is not one of bytes
 */
export type StartProgress = (what: string, total?: number, show?: (amount: number) => string) => Progress;

/** Where there is no terminal. */
export const noProgress: StartProgress = () => ({ advance: () => {}, end: () => {} });

/** What progress is shown on. */
export interface Terminal {
  write(text: string): void;
  /** Characters in a line; undefined or 0 where the terminal does not say. */
  readonly columns: number | undefined;
}

/** Goes to the beginning of the line and clears it. */
export const CLEAR_LINE = '\r\u001b[K';

const BAR_WIDTH = 20;
const REDRAW_MS = 100;
/** Work that is done by then needs no progress line. */
const QUIET_MS = 500;

/**
 * One line on a terminal, redrawn in place and removed at the end. It is never wider than the terminal, where a line that wraps
 * would leave its first half behind.
 * @param now milliseconds
 */
export function progressLine(terminal: Terminal, now: () => number): StartProgress {
  return (what, total, show = humanSize) => {
    const start = now();
    let done = 0;
    let drawnAt = start + QUIET_MS - REDRAW_MS;
    let drawn = false;
    return {
      advance(amount) {
        done += amount;
        const at = now();
        if (at - drawnAt < REDRAW_MS) return;
        drawnAt = at;
        drawn = true;
        // In the last column some terminals wrap already.
        const width = (terminal.columns || 80) - 1;
        terminal.write(`\r${fit(printable(what), facts(done, total, at - start, show), width)}\u001b[K`);
      },
      end() {
        if (drawn) terminal.write(CLEAR_LINE);
      },
    };
  };
}

/** The most important part first: what does not fit is left out from the end. */
function facts(done: number, total: number | undefined, ms: number, show: (amount: number) => string): string[] {
  if (total === undefined) return [humanAge(ms)];
  const share = total > 0 ? Math.min(1, done / total) : 1;
  const rate = (done / ms) * 1000;
  const filled = Math.round(share * BAR_WIDTH);
  return [
    `${Math.floor(share * 100)}%`,
    `${show(done)} of ${show(Math.max(total, done))}`,
    `${show(rate)}/s`,
    ...(rate > 0 && done < total ? [`${humanAge(Math.ceil((total - done) / rate) * 1000)} left`] : []),
    `[${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}]`,
  ];
}

function fit(what: string, parts: readonly string[], width: number): string {
  const least = Math.min(what.length, 24);
  const line = parts.reduce((fitting, part) => {
    const longer = fitting === '' ? part : `${fitting}  ${part}`;
    return least + 2 + longer.length <= width ? longer : fitting;
  }, '');
  const room = Math.max(1, line === '' ? width : width - line.length - 2);
  // Names of blobs differ at their end.
  const subject = what.length <= room ? what : `…${what.slice(what.length - room + 1)}`;
  return line === '' ? subject : `${subject}  ${line}`;
}

/** Measures the phases of a run. */
export class Stopwatch {
  readonly #start = performance.now();
  readonly #durations: Record<string, number> = {};

  async time<T>(phase: string, work: Promise<T>): Promise<T> {
    const start = performance.now();
    const result = await work;
    this.#durations[phase] = Math.round(performance.now() - start);
    return result;
  }

  /** Milliseconds of each finished phase, and of everything so far. */
  durations(): Readonly<Record<string, number>> & { readonly total: number } {
    return { ...this.#durations, total: Math.round(performance.now() - this.#start) };
  }
}
