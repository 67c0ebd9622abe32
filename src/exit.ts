import { killChildren } from './children.ts';

/** Requests that wait in a thread: for a name server, or for a file system. */
const IN_A_THREAD = /^(FSReq|GetAddrInfoReq|GetNameInfoReq)/;

/**
 * Ends the process and its children now. `process.exit` waits for the threads, which may wait for a name server, a FIFO or a
 * network file system that never answers, and no signal helps where the process is the first of its container. So where
 * threads may be at work the process becomes another program, which has no threads and only exits.
 * @param isForced whether something was still under way
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
