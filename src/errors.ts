/** Exit codes are part of the interface: scripts and alerts rely on them (README, "Troubleshooting"). */
export const ExitCode = {
  done: 0,
  unexpected: 1,
  usage: 2,
  retentionIncomplete: 3,
  etcd: 10,
  verification: 11,
  storage: 12,
  noSuchSnapshot: 13,
  unsafe: 20,
} as const;

/**
 * An end of the run that we understand: one sentence that says what failed and why, and a hint that says what to do.
 * Everything else that is thrown is a bug and ends with exit code 1.
 */
export class WorkerError extends Error {
  readonly exitCode: number;
  readonly hint: string;

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

/** etcd cannot be reached, refuses us, or stops in the middle. */
export class EtcdError extends WorkerError {
  constructor(message: string, hint: string, cause?: unknown) {
    super(ExitCode.etcd, message, hint, cause);
  }
}

/** What etcd sent, or what is stored, is not a sound snapshot. */
export class VerificationError extends WorkerError {
  constructor(message: string, hint: string, cause?: unknown) {
    super(ExitCode.verification, message, hint, cause);
  }
}

/** The blob store cannot be reached, refuses us, or returns other bytes than it was given. */
export class StorageError extends WorkerError {
  /** Azure's own error code, such as `ContainerNotFound`, or the network's, such as `ECONNREFUSED`. */
  readonly code: string;

  constructor(code: string, message: string, hint: string, cause?: unknown) {
    super(ExitCode.storage, message, hint, cause);
    this.code = code;
  }

  /** The identity is known, and has no right to do this. */
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

/** A signal ended the run. */
export class Interrupted extends WorkerError {
  readonly #signal: EndingSignal;

  /** @param outcome what became of the run's snapshot, as the end of a sentence; it goes with a hint of its own */
  constructor(signal: EndingSignal, outcome?: string, hint = 'Run the command again.') {
    const message = `Interrupted by ${signal} before the work was done`;
    super(SIGNAL_EXIT_CODES[signal], outcome === undefined ? `${message}.` : `${message}; ${outcome}.`, hint);
    this.#signal = signal;
  }

  /** The same end, with what became of the snapshot that the run was storing. */
  withOutcome(outcome: string, hint: string): Interrupted {
    return new Interrupted(this.#signal, outcome, hint);
  }
}

/**
 * The reason with which a run is aborted when SNAPSHOT_TIMEOUT is over. The door that was being waited for (etcd or store)
 * turns it into its own error, so that the exit code names the side that was slow.
 */
export class RunTimeout extends Error {
  readonly seconds: number;

  constructor(seconds: number) {
    super(`SNAPSHOT_TIMEOUT of ${seconds} s is over`);
    this.name = 'RunTimeout';
    this.seconds = seconds;
  }
}

/** What an error says. Node gives none to the failure of a host with several addresses: that is what each of them said. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') {
    return [...new Set(error.errors.map(messageOf))].join('; ');
  }
  return error instanceof Error ? error.message : String(error);
}
