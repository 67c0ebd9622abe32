import type { Config, StorageConfig } from '../config/config.ts';
import type { WorkerError } from '../errors.ts';
import type { Log, Warnings } from '../log.ts';
import type { Samples } from '../monitoring/metrics.ts';
import type { StartProgress } from '../progress.ts';
import type { Sealing } from '../sealed/sealing.ts';
import type { Signatures } from '../sealed/signature.ts';
import type { Secret } from '../secret.ts';
import type { BlobStore } from '../store/store.ts';

/** What every command is given. */
export interface Context {
  readonly config: Config;
  readonly log: Log;
  /** Shows the progress of long work on a terminal. */
  readonly startProgress: StartProgress;
  /** Whether stdout is a terminal. */
  readonly isTerminal: boolean;
  /** Asks a yes-or-no question; undefined without a terminal. */
  readonly confirm: ((question: string) => Promise<boolean>) | undefined;
  /** Asks for a passphrase, which is not shown; undefined without a terminal. */
  readonly askPassphrase: ((question: string) => Promise<Secret>) | undefined;
  /** Aborted by a signal or after SNAPSHOT_TIMEOUT; its reason is the error to end with. */
  readonly signal: AbortSignal;
  /** The keys that sign and verify; undefined where no key is configured. */
  readonly signatures: Signatures | undefined;
  /** Directories in which programs are looked for: etcd's own tools. */
  readonly searchPath: readonly string[];
  /** Bytes of memory for the verifier. */
  readonly memoryBudget: number;
  /** What the run knows so far, for the report of its end. */
  readonly known: Known;
  /** Of this program, such as `0.1.0`. */
  readonly version: string;
}

interface Known {
  clusterId?: string | undefined;
}

/** What follows the command's name on the command line. */
export interface Arguments {
  readonly operands: readonly string[];
  readonly options: Readonly<Record<string, unknown>>;
}

/** The result of a command. */
export interface Outcome {
  /** For people, on stdout; bytes are written as they are. */
  readonly text: string | Buffer;
  /** For machines, on stdout instead of the text with `--json`. */
  readonly json: unknown;
  /** The result in one line, without a line feed; undefined = only that the command is done. */
  readonly summary?: string;
  /** What monitoring gets, if all went well. */
  readonly measured?: Samples;
  /** What the success ends, as a sentence: failures, or a gap. */
  readonly recovery?: string | undefined;
  /** What went wrong all the same: it is logged, and decides the exit code. */
  readonly partialFailure?: WorkerError;
  /** In a dry run a partial failure is only a warning. */
  readonly isDryRun?: boolean;
}

/** Reads the keys for signatures, if any is configured: only then is the code for them loaded. @throws UsageError */
export async function prepareSignatures({ signatures }: Config, log: Log): Promise<Signatures | undefined> {
  if (signatures === undefined) return undefined;
  const { loadSignatures } = await import('../sealed/signing-keys.ts');
  return loadSignatures(signatures, log);
}

/** Only a run that seals loads the code for it. @throws UsageError for recipients that are not valid */
export async function prepareSealing(config: Config['sealing'], warnings: Warnings): Promise<Sealing | undefined> {
  if (config === undefined) return undefined;
  const sealed = await import('../sealed/sealing.ts');
  return sealed.Sealing.prepare(config, warnings);
}

/** The store of a command whose needs name storage. Loads Azure's SDK, which takes long, only here. */
export async function openStore(context: Context): Promise<BlobStore> {
  return openPlace(context.config.storage, context);
}

/** The second place of a command whose needs name it. */
export async function openCopy(context: Context): Promise<BlobStore> {
  return openPlace(context.config.copy, context);
}

async function openPlace(place: StorageConfig | undefined, { log, signal, signatures }: Context): Promise<BlobStore> {
  if (place === undefined) throw new Error('the command did not say that it needs this place');
  const { BlobStore } = await import('../store/store.ts');
  return BlobStore.open(place, signal, log, { signatures });
}
