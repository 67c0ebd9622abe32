import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { cleaned, type Environment } from '../config/environment.ts';
import { messageOf } from '../errors.ts';
import { pathProblem } from '../files.ts';
import type { Log } from '../log.ts';
import { printable } from '../text.ts';

/** Kubernetes reads no more of it. */
const MAX_BYTES = 4096;

/** Where Kubernetes mounts it, unless the pod names another file. */
export const TERMINATION_LOG = '/dev/termination-log';

/** Writes the result for the status of the pod. Outside Kubernetes there is no such file, and that is no problem. */
export function writeTerminationMessage(env: Environment, message: string, log: Log): void {
  const named = cleaned(env['SNAPSHOT_TERMINATION_LOG']);
  const problem = named === undefined ? undefined : pathProblem(named);
  if (problem !== undefined) return log.warn(`SNAPSHOT_TERMINATION_LOG ${problem}.`);
  try {
    writeToExisting(named ?? TERMINATION_LOG, message);
  } catch (error) {
    const hint = 'Set SNAPSHOT_TERMINATION_LOG to an existing, writable file.';
    if (named !== undefined) log.warn(`cannot write termination message to ${named}: ${messageOf(error)}`, { hint });
  }
}

/**
 * Writes one line to a file that exists: Kubernetes creates it. A file that is not a regular file must not block the run.
 * @throws Error of the file system
 */
export function writeToExisting(path: string, message: string): void {
  const file = openSync(path, constants.O_WRONLY | constants.O_TRUNC | constants.O_NONBLOCK);
  try {
    const line = printable(message.replace(/\s*\n\s*/g, ' ').trim());
    // As many whole characters as fit.
    const bytes = new Uint8Array(MAX_BYTES);
    writeSync(file, bytes.subarray(0, new TextEncoder().encodeInto(line, bytes).written));
  } finally {
    closeSync(file);
  }
}
