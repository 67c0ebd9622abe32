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

/** A signal ended the run; the exit code is 128 + the signal's number, as a shell reports it. */
export class Interrupted extends WorkerError {
  readonly #signal: 'SIGINT' | 'SIGTERM';

  /** @param stays a blob that was to be withdrawn, and may be visible all the same */
  constructor(signal: 'SIGINT' | 'SIGTERM', stays?: string) {
    const [remains, hint] =
      stays === undefined
        ? ['', '`etcd-snapshot list` shows what is stored.']
        : [
            `; ${stays} may be stored, for its withdrawal was not confirmed in time`,
            `\`etcd-snapshot verify ${stays}\` proves the blob, should it be there.`,
          ];
    const exitCode = signal === 'SIGINT' ? 130 : 143;
    super(exitCode, `Interrupted by ${signal} before the work was done${remains}.`, `Run the command again; ${hint}`);
    this.#signal = signal;
  }

  /** The same end, of a run that may have left a blob. */
  leaving(blob: string): Interrupted {
    return new Interrupted(this.#signal, blob);
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

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
