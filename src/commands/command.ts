import type { Config } from '../config.ts';
import type { WorkerError } from '../errors.ts';
import type { Log } from '../log.ts';

/** What every command is given. */
export interface Context {
  readonly config: Config;
  readonly log: Log;
  /** Aborted by a signal or when SNAPSHOT_TIMEOUT is over; its reason is the error to end with. */
  readonly signal: AbortSignal;
  /** Of this program, such as `0.1.0`. */
  readonly version: string;
}

/** What a command that came to its end has to show. */
export interface Outcome {
  /** For people, on stdout. */
  readonly text: string;
  /** For machines, on stdout instead of the text with `--json`. */
  readonly json: unknown;
  /** What nevertheless went wrong: told on stderr, and it decides the exit code. */
  readonly shortfall?: WorkerError;
}

export type Command = (context: Context) => Promise<Outcome>;
