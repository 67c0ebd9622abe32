import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { collect, type Finished } from './process.ts';

/** Waits for the end of a process. `peak` is the most memory that it had, in MiB. */
export async function collectPeak(child: ChildProcess): Promise<Finished & { readonly peak: number }> {
  const ended = collect(child);
  let peak = 0;
  for (let over = false; !over; over = await Promise.race([ended.then(() => true), sleep(20, false)])) {
    peak = Math.max(peak, peakOf(child.pid));
  }
  return { ...(await ended), peak };
}

/** So far; 0 when it is gone. */
function peakOf(pid: number | undefined): number {
  try {
    return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}
