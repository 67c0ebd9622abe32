import { delimiter } from 'node:path';
import { type CommandLine, parseCommandLine } from './cli.ts';
import { type Context, type Outcome, prepareSignatures } from './commands/command.ts';
import { type Needs, readConfig, readLogConfig, secretsOf, unknownVariables } from './config/config.ts';
import { type Environment, readEnvironment } from './config/environment.ts';
import { readMonitoring } from './config/monitoring.ts';
import {
  type EndingSignal,
  ExitCode,
  Interrupted,
  messageOf,
  RunTimeout,
  SIGNAL_EXIT_CODES,
  UsageError,
  WorkerError,
} from './errors.ts';
import { createLog, type Log } from './log.ts';
import type { Samples } from './monitoring/metrics.ts';
import { writeTerminationMessage } from './monitoring/termination-message.ts';
import {
  askPassphraseOnTerminal,
  confirmOnTerminal,
  endProcess,
  flush,
  hasColours,
  hasNodeTakenEnvFile,
  memoryBudget,
  progressOnStderr,
  version,
  writeToStderr,
  writeToStdout,
} from './process.ts';
import { maskedJson, masker } from './secret.ts';
import { printableLines, withColours } from './text.ts';

/** An aborted run has this long to end by itself, which includes the rollback of a blob that is not read back yet. */
const SHUTDOWN_GRACE_MS = 1_700;

/** Everything that is needed to report the end of a run, however it ends. */
interface Run extends Settings {
  /** Whether stdout gets JSON, an error included. */
  json: boolean;
  hasPrinted: boolean;
  end: End | undefined;
  /** Undefined before the command begins. */
  context: Context | undefined;
  /** The report that it began. */
  started: Promise<void>;
}

/** What follows from the variables. */
interface Settings {
  env: Environment;
  /** Hides the values of secret variables. */
  mask: (text: string) => string;
  log: Log;
}

/** How a run ended. */
interface End {
  readonly exitCode: number;
  /** The result in one line. */
  readonly summary: string;
  /** For `--json`; its code is the exit code. */
  readonly error?: { readonly code: number; readonly message: string; readonly hint: string };
  readonly measured?: Samples;
  readonly recovery?: string | undefined;
}

/** Runs one command and ends the process. */
export async function main(): Promise<never> {
  const { env, argv } = process;
  const run: Run = {
    ...{ ...settingsOf(env), json: argv.includes('--json'), hasPrinted: false, end: undefined },
    ...{ context: undefined, started: Promise.resolve() },
  };
  const controller = new AbortController();
  const { signal } = controller;
  installAbortHandlers(run, controller);
  let commandLine: CommandLine | undefined;
  let end: End;
  try {
    commandLine = parseCommandLine(argv.slice(2));
    run.json = commandLine.json;
    if (commandLine.ask !== undefined) {
      const text = commandLine.ask === 'help' ? commandLine.help : version();
      await print(run, `${text}\n`, signal);
      endProcess(ExitCode.done, false);
    }
    end = await execute(run, commandLine, controller);
  } catch (error) {
    end = failed(error, run.log);
  }
  // From here on nothing changes it any more, not even an end by force.
  conclude(run, end);
  if (!run.hasPrinted && run.json && end.error !== undefined) {
    await print(run, jsonOf(run, { error: end.error }), signal, end.summary).catch(() => {});
  }
  await reportResult(run, end, commandLine, signal);
  await flush();
  endProcess(end.exitCode, signal.aborted);
}

async function execute(run: Run, commandLine: CommandLine, controller: AbortController): Promise<End> {
  const { name, run: command, needs, envFile } = commandLine;
  const { signal } = controller;
  if (envFile !== undefined && hasNodeTakenEnvFile()) {
    throw new UsageError(
      'Node.js treated --env-file as its own option, and applied NODE_OPTIONS of that file.',
      'Put two dashes before the program: node -- dist/main.js … --env-file FILE',
    );
  }
  const { variables: env, warnings } = await readEnvironment(envFile, process.env, process.geteuid?.());
  Object.assign(run, settingsOf(env));
  const { log } = run;
  for (const [sentence, hint] of warnings) log.warn(sentence, { hint });
  for (const warning of unknownVariables(env)) log.warn(warning);
  const config = readConfig(env, needs);
  setTimeout(() => abort(run, controller, new RunTimeout(config.timeout)), config.timeout * 1000);
  run.started = reportStart(run, needs, signal);
  run.context = {
    config,
    signatures: await prepareSignatures(config, log),
    log,
    signal,
    startProgress: progressOnStderr(),
    isTerminal: process.stdout.isTTY,
    confirm: confirmOnTerminal(signal),
    askPassphrase: askPassphraseOnTerminal(signal),
    searchPath: (process.env['PATH'] ?? '').split(delimiter).filter((dir) => dir !== ''),
    memoryBudget: memoryBudget(),
    known: {},
    version: version(),
  };
  const outcome = await command(run.context);
  const end = endOf(name, outcome, log);
  try {
    await print(run, outputOf(run, outcome, end), signal, outcome.summary);
  } catch (error) {
    return { ...end, ...failed(error, log) };
  }
  return end;
}

/** Logs what went wrong although the command has a result. */
export function endOf(name: string, outcome: Outcome, log: Log): End {
  const { summary = `${name}: done`, measured = {}, recovery, partialFailure } = outcome;
  if (partialFailure === undefined) return { exitCode: ExitCode.done, summary, measured, recovery };
  return { ...failed(partialFailure, log, outcome.isDryRun === true ? 'warn' : 'error'), measured, recovery };
}

/** Aborts the run on a signal, and ends it immediately on an uncaught error. */
function installAbortHandlers(run: Run, controller: AbortController): void {
  // A terminal that was closed, or a reader that left.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
  // Node prints warnings of libraries as bare text, which would be among the lines of a JSON log.
  process
    .removeAllListeners('warning')
    .on('warning', ({ message }) => run.log.debug('library warning', { warning: message }))
    .on('uncaughtException', (error) => endNow(run, error));
  for (const name of Object.keys(SIGNAL_EXIT_CODES) as EndingSignal[]) {
    process.on(name, () => {
      run.log.debug('received signal', { signal: name });
      abort(run, controller, new Interrupted(name));
    });
  }
}

/** Aborts the run, and ends the process when the run does not end. */
function abort(run: Run, controller: AbortController, reason: Interrupted | RunTimeout): void {
  if (controller.signal.aborted) return;
  controller.abort(reason);
  setTimeout(() => endNow(run, reason), SHUTDOWN_GRACE_MS);
}

/** Reports the end if that was not done yet, without waiting for anything, and ends the process. */
function endNow(run: Run, reason: unknown): never {
  const end = run.end ?? conclude(run, failed(withFate(reason), run.log));
  if (end.error !== undefined && run.json && !run.hasPrinted) process.stdout.write(jsonOf(run, { error: end.error }));
  endProcess(end.exitCode, true);
}

/** A reader must not look for a blob whose name nobody said. */
function withFate(reason: unknown): unknown {
  if (!(reason instanceof Interrupted || reason instanceof RunTimeout)) return reason;
  const fate = reason.fates.map((known) => known()).find((known) => known !== undefined);
  if (fate === undefined) return reason;
  if (reason instanceof Interrupted) return reason.withOutcome(fate.outcome, fate.hint);
  return new WorkerError(ExitCode.unexpected, `${reason.message}; ${fate.outcome}.`, fate.hint, reason);
}

/** Writes how the run ends to the termination message. */
function conclude(run: Run, end: End): End {
  run.end = end;
  writeTerminationMessage(run.env, run.mask(end.summary), run.log);
  return end;
}

/** Logs the error that a run ends with. */
export function failed(error: unknown, log: Log, level: 'error' | 'warn' = 'error'): End {
  if (error instanceof WorkerError) log.debug('cause of the error', { cause: String(error.cause) });
  const { message, hint, exitCode, problems } = error instanceof WorkerError ? error : unexpected(error);
  log[level](message, { hint, exitCode, ...(problems.length > 0 && { problems }) });
  const summary = `${message} ${hint} (exit code ${exitCode})`;
  return { exitCode, summary, error: { code: exitCode, message, hint } };
}

function unexpected(error: unknown): WorkerError {
  if (error instanceof RunTimeout) {
    const hint = 'Check the log lines before this one: a name server, a file system or a program does not answer.';
    return new WorkerError(ExitCode.unexpected, `${error.message}.`, hint, error);
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const hint = `Please report this: ${text.replaceAll(/\s*\n\s*/g, ' ')}`;
  return new WorkerError(ExitCode.unexpected, 'Unexpected error.', hint, error);
}

/** @param summary the result in one line, if there is one @throws WorkerError if it cannot be written */
async function print(run: Run, text: string | Buffer, signal: AbortSignal, summary?: string): Promise<void> {
  run.hasPrinted = true;
  try {
    await writeToStdout(text, signal);
  } catch (error) {
    const exitCode = error instanceof Interrupted ? error.exitCode : ExitCode.unexpected;
    const isEnded = error instanceof Interrupted || error instanceof RunTimeout;
    const why = isEnded ? 'it was not read in time' : messageOf(error);
    const result = summary === undefined ? '' : ` The result: ${summary}`;
    const message = `Cannot write to standard output: ${why}.${result}`;
    throw new WorkerError(exitCode, message, 'Check the process or disk that standard output goes to.', error);
  }
}

/** What a command prints on stdout. */
export function outputOf(run: Pick<Run, 'json' | 'mask'>, outcome: Outcome, { error }: End): string | Buffer {
  const { json } = outcome;
  if (!run.json) return textOf(run, outcome);
  return jsonOf(run, error === undefined || Array.isArray(json) ? json : { ...(json as object), error });
}

export function jsonOf({ mask }: Pick<Run, 'mask'>, document: unknown): string {
  return `${maskedJson(document, mask, 2)}\n`;
}

/** Bytes are written as they are, but not to a terminal that could take them for commands. */
function textOf({ mask }: Pick<Run, 'mask'>, { text }: Outcome): string | Buffer {
  if (text === '') return '';
  if (typeof text === 'string') return `${withColours(text, hasColours(), (part) => printableLines(mask(part)))}\n`;
  if (!process.stdout.isTTY || printableLines(text.toString()) === text.toString()) return text;
  throw new UsageError(
    'The value is not text, and is not written to a terminal.',
    'Redirect the output to a file: … > FILE',
  );
}

/** Reports to the ping URL that a backup begins: only the report of its end waits for it. The code for it is loaded only if needed. */
async function reportStart({ env, log }: Run, { reports }: Needs, signal: AbortSignal): Promise<void> {
  const { pingUrl } = readMonitoring(env);
  if (reports !== 'backup' || pingUrl === undefined) return;
  const monitoring = await import('./monitoring/report-run.ts');
  await monitoring.reportStart(pingUrl, { signal, env: process.env, log });
}

/** Reports the end to monitoring, if any is configured. */
async function reportResult(
  { env, log, mask, context, started }: Run,
  { exitCode, summary, error, measured = {}, recovery }: End,
  commandLine: CommandLine | undefined,
  signal: AbortSignal,
): Promise<void> {
  const command = commandLine?.needs.reports;
  const config = readMonitoring(env);
  if (command === undefined || (config.pushgatewayUrl ?? config.pingUrl ?? config.notifyUrl) === undefined) return;
  const noteFailure = async (limit: AbortSignal): Promise<void> => {
    if (context === undefined || (command !== 'backup' && command !== 'drill')) return;
    const notes = await import('./commands/note-failure.ts');
    await notes.noteFailure(context, { command, exitCode }, limit);
  };
  const { reportEnd } = await import('./monitoring/report-run.ts');
  const [message, hint] = error === undefined ? [summary] : [error.message, error.hint];
  const clusterId = context?.known.clusterId;
  const end = { command, exitCode, at: new Date(), message, hint, clusterId, recovery, measured, version: version() };
  await reportEnd(end, config, { signal, env: process.env, log, mask, started, noteFailure });
}

function settingsOf(env: Environment): Settings {
  const mask = masker(secretsOf(env));
  const { format, level } = readLogConfig(env);
  return { env, mask, log: createLog(format ?? (process.stderr.isTTY ? 'text' : 'json'), level, writeToStderr, mask) };
}
