/** Exit codes are part of the interface: scripts and alerts rely on them (docs/troubleshooting.md). */
export const ExitCode = {
  done: 0,
  unexpected: 1,
  usage: 2,
  incomplete: 3,
  etcd: 10,
  verification: 11,
  storage: 12,
  noSuchSnapshot: 13,
  unsafe: 20,
} as const;

/**
 * An expected failure: one sentence that says what failed and why, and a hint that says what to do. Everything else that is
 * thrown is a bug and ends with exit code 1.
 */
export class WorkerError extends Error {
  readonly exitCode: number;
  hint: string;
  /** The parts of a message that lists several problems: text logs show one per line. */
  readonly problems: readonly string[] = [];

  constructor(exitCode: number, message: string, hint: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.exitCode = exitCode;
    this.hint = hint;
  }
}

/** The command line or the configuration is wrong; nothing was done. */
export class UsageError extends WorkerError {
  constructor(message: string, hint: string, cause?: unknown) {
    super(ExitCode.usage, message, hint, cause);
  }
}

/** Variables are wrong; all problems are reported together. */
export class ConfigurationError extends UsageError {
  override readonly problems: readonly string[];

  constructor(problems: readonly string[], hint: string) {
    const count = problems.length === 1 ? 'one error' : `${problems.length} errors`;
    super(`The configuration has ${count}: ${problems.join('; ')}.`, hint);
    this.problems = problems;
  }
}

/** etcd cannot be reached, refuses a request, or stops in the middle. */
export class EtcdError extends WorkerError {
  constructor(message: string, hint: string, cause?: unknown) {
    super(ExitCode.etcd, message, hint, cause);
  }
}

/** What etcd sent, or what is stored, is not a valid snapshot. */
export class VerificationError extends WorkerError {
  constructor(message: string, hint: string, cause?: unknown) {
    super(ExitCode.verification, message, hint, cause);
  }
}

/** The blob store cannot be reached, refuses a request, or returns other bytes than it was given. */
export class StorageError extends WorkerError {
  /** Azure's own error code, such as `ContainerNotFound`, or the network's, such as `ECONNREFUSED`. */
  readonly code: string;

  constructor(code: string, message: string, hint: string, cause?: unknown) {
    super(ExitCode.storage, message, hint, cause);
    this.code = code;
  }

  /** The identity is known, and has no permission for this. */
  get isForbidden(): boolean {
    return /^Authorization(Permission|ResourceType)Mismatch$/.test(this.code);
  }
}

/** The cluster is not healthy, or the step would endanger it and was not done. */
export class UnsafeError extends WorkerError {
  constructor(message: string, hint: string, cause?: unknown) {
    super(ExitCode.unsafe, message, hint, cause);
  }
}

/** The signals that end a run, with the exit codes by which a shell reports them: 128 + the signal's number. */
export const SIGNAL_EXIT_CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;
export type EndingSignal = keyof typeof SIGNAL_EXIT_CODES;

/** What became of a blob that a run was storing. */
export interface Fate {
  /** As the end of a sentence. */
  readonly outcome: string;
  readonly hint: string;
}

/** A signal ended the run. */
export class Interrupted extends WorkerError {
  /** What is known of its blobs, should the run have to end before it can tell; the first one that knows something counts. */
  readonly fates: (() => Fate | undefined)[] = [];
  readonly #signal: EndingSignal;

  /** @param outcome what happened to the run's snapshot, as the end of a sentence; it has its own hint */
  constructor(signal: EndingSignal, outcome?: string, hint = 'Run the command again.') {
    const message = `Interrupted by ${signal} before the work was done`;
    super(SIGNAL_EXIT_CODES[signal], outcome === undefined ? `${message}.` : `${message}; ${outcome}.`, hint);
    this.#signal = signal;
  }

  /** The same error, with what happened to the snapshot that the run was storing. */
  withOutcome(outcome: string, hint: string): Interrupted {
    return new Interrupted(this.#signal, outcome, hint);
  }
}

/**
 * The reason with which a run is aborted after SNAPSHOT_TIMEOUT. Whichever side was being waited for (etcd or storage) turns
 * it into its own error: the exit code names the side that was slow.
 */
export class RunTimeout extends Error {
  /** As of Interrupted. */
  readonly fates: (() => Fate | undefined)[] = [];
  readonly seconds: number;

  constructor(seconds: number) {
    super(`Timed out after ${seconds} s (SNAPSHOT_TIMEOUT)`);
    this.name = 'RunTimeout';
    this.seconds = seconds;
  }
}

/** Whether a system call failed with this code, such as `ENOENT`. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

/** The message of an error. Where a host has several addresses, Node gives no message: it is made of that of each. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') {
    return [...new Set(error.errors.map(messageOf))].join('; ');
  }
  return error instanceof Error ? error.message : String(error);
}
