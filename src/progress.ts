/** Shows the progress of one piece of work of so many bytes. */
export interface Progress {
  advance(bytes: number): void;
  end(): void;
}

export type StartProgress = (what: string, totalBytes: number) => Progress;

/** For when nobody watches. */
export const noProgress: StartProgress = () => ({ advance: () => {}, end: () => {} });

const WIDTH = 30;
const REDRAW_MS = 100;
/** Work that is done by then needs no bar. */
const PATIENCE_MS = 500;

/** A bar on a terminal, redrawn in place and removed at the end. `now` tells milliseconds. */
export function progressBar(write: (text: string) => void, now: () => number): StartProgress {
  return (what, totalBytes) => {
    const start = now();
    let done = 0;
    let drawnAt = start + PATIENCE_MS - REDRAW_MS;
    let drawn = false;
    return {
      advance(bytes) {
        done += bytes;
        const at = now();
        if (at - drawnAt < REDRAW_MS) return;
        drawnAt = at;
        drawn = true;
        write(`\r${line(what, done, totalBytes, (at - start) / 1000)}\u001b[K`);
      },
      end() {
        if (drawn) write('\r\u001b[K');
      },
    };
  };
}

function line(what: string, done: number, total: number, seconds: number): string {
  const share = total > 0 ? Math.min(1, done / total) : 1;
  const filled = Math.round(share * WIDTH);
  const rate = done / seconds;
  const left = rate > 0 ? Math.ceil((total - done) / rate) : 0;
  const bar = `[${'#'.repeat(filled)}${'.'.repeat(WIDTH - filled)}]`;
  return `${what} ${bar} ${Math.floor(share * 100)}% ${(rate / 1e6).toFixed(0)} MB/s, ${left} s left`;
}
