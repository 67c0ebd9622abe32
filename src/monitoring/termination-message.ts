import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { printable } from '../text.ts';

/** Kubernetes reads no more of it. */
const MAX_BYTES = 4096;

/** Where Kubernetes mounts it, unless the pod says otherwise. */
export const TERMINATION_LOG = '/dev/termination-log';

/**
 * Leaves the last words of a container, as one line, where Kubernetes shows them: in the status of the pod. The file is
 * Kubernetes', so it is not created; and what is no ordinary file must not hold us up.
 * @throws Error of the file system
 */
export function writeTerminationLog(path: string, words: string): void {
  const file = openSync(path, constants.O_WRONLY | constants.O_TRUNC | constants.O_NONBLOCK);
  try {
    writeSync(file, fitted(printable(words.replace(/\s*\n\s*/g, ' ').trim())));
  } finally {
    closeSync(file);
  }
}

/** As many whole characters as fit. */
function fitted(line: string): Uint8Array {
  const bytes = new Uint8Array(MAX_BYTES);
  return bytes.subarray(0, new TextEncoder().encodeInto(line, bytes).written);
}
