import { Interrupted, WorkerError } from '../errors.ts';

/** One result of `doctor`. */
export interface Check {
  readonly what: string;
  readonly state: 'ok' | 'warn' | 'fail';
  /** One sentence. */
  readonly finding: string;
  /** What to do about it. */
  readonly hint?: string;
  /** Of a failure: by what code the program ends. */
  readonly exitCode?: number;
}

export function ok(what: string, finding: string): Check {
  return { what, state: 'ok', finding };
}

export function warn(what: string, finding: string, hint: string): Check {
  return { what, state: 'warn', finding, hint };
}

export function fail(what: string, { message, hint, exitCode }: WorkerError): Check {
  return { what, state: 'fail', finding: message, hint, exitCode };
}

/** A check that tries something: an expected error is its result, and the other checks go on. */
export async function tried(what: string, check: () => Promise<Check | Check[]>): Promise<Check[]> {
  try {
    return [await check()].flat();
  } catch (error) {
    if (!(error instanceof WorkerError) || error instanceof Interrupted) throw error;
    return [fail(what, error)];
  }
}
