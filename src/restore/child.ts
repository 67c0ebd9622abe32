import { once } from 'node:events';
import { basename } from 'node:path';
import { onAbort } from '../abort.ts';
import { killChild, startChild } from '../children.ts';
import { EtcdError, RunTimeout } from '../errors.ts';

export interface Ended {
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly killedBy: NodeJS.Signals | null;
  /** What it printed, on both of its outputs. */
  readonly output: string;
}

/** All that a program of etcd's needs of the environment; none of our variables, for they hold secrets. */
export const CHILD_ENVIRONMENT = { ETCDCTL_API: '3' };

/**
 * Runs a program to its end. An abort kills it and is thrown after it is gone, so that nobody writes any more.
 * @throws the abort's reason, as EtcdError when the time is over; Error with code `ENOENT` or `EACCES` when the program
 *   cannot be started
 */
export async function runProgram(program: string, args: readonly string[], signal: AbortSignal): Promise<Ended> {
  signal.throwIfAborted();
  const child = startChild(program, args, { env: CHILD_ENVIRONMENT, stdio: ['ignore', 'pipe', 'pipe'] });
  const stopWatching = onAbort(signal, () => killChild(child));
  let output = '';
  const keep = (text: string): void => void (output += text);
  child.stdout?.setEncoding('utf8').on('data', keep);
  child.stderr?.setEncoding('utf8').on('data', keep);
  try {
    const [code, killedBy] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
    if (signal.aborted) throw abortReason(program, signal);
    return { code, killedBy, output };
  } finally {
    stopWatching();
  }
}

/** What to end with after an abort while a program of etcd's was at work. */
export function abortReason(program: string, { reason }: AbortSignal): unknown {
  if (!(reason instanceof RunTimeout)) return reason;
  return new EtcdError(
    `${reason.message} while ${basename(program)} was at work.`,
    'Raise SNAPSHOT_TIMEOUT for a large database or a slow disk.',
    reason,
  );
}
