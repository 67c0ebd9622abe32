import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { constants, getPriority, setPriority } from 'node:os';
import { delimiter } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CommandLine, parseCommandLine } from './cli.ts';
import type { Context, Outcome } from './commands/command.ts';
import { readConfig, readLogConfig, readMonitoring, secretsOf, unknownVariables } from './config/config.ts';
import { readEnvFile } from './config/env-file.ts';
import { cleaned, type Environment } from './config/variable-reader.ts';
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
import { pathProblem } from './files.ts';
import { createLog, type Log } from './log.ts';
import type { Sample } from './monitoring/metrics.ts';
import { TERMINATION_LOG, writeTerminationLog } from './monitoring/termination-message.ts';
import { endProcess } from './exec.ts';
import { CLEAR_LINE, noProgress, progressLine, type StartProgress } from './progress.ts';
import { maskedJson, masker } from './secret.ts';
import { printable, printableLines } from './text.ts';

/** An aborted run has this long to end by itself, which includes the rollback of a blob that is not proven yet. */
const SHUTDOWN_GRACE_MS = 1_700;

/** How long the last lines may take to be written, where their reader is slow. */
const FLUSH_MS = 500;

const MIB = 1024 * 1024;

/** Everything that is needed to report the end of a run, however it comes. */
interface Run {
  env: Environment;
  log: Log;
  /** Whether stdout gets JSON, an error included. */
  json: boolean;
  /** Whether stdout has got anything. */
  printed: boolean;
  end: End | undefined;
}

/** How a run ended. */
interface End {
  readonly exitCode: number;
  /** In one line. */
  readonly words: string;
  /** For `--json`; its code is the exit code. */
  readonly error?: { readonly code: number; readonly message: string; readonly hint: string };
  readonly measured?: readonly Sample[];
}

/** Runs one command and ends the process. */
export async function main(): Promise<never> {
  const { env } = process;
  const run: Run = { env, log: makeLog(env), json: process.argv.includes('--json'), printed: false, end: undefined };
  const controller = new AbortController();
  const { signal } = controller;
  watchProcess(run, controller);
  let commandLine: CommandLine | undefined;
  try {
    commandLine = parseCommandLine(process.argv.slice(2));
    run.json = commandLine.json;
    if (commandLine.ask !== undefined) {
      await print(run, `${commandLine.ask === 'help' ? commandLine.help : version()}\n`, signal);
      endProcess(ExitCode.done, false);
    }
    run.end = await execute(run, commandLine, controller);
  } catch (error) {
    run.end = report(error, run.log);
  }
  // From here on nothing changes it any more, not even an end by force.
  const { end } = run;
  writeTermination(run, end);
  if (!run.printed && run.json && end.error !== undefined)
    await print(run, errorJson(run, end), signal).catch(() => {});
  await reportResult(end, commandLine, run, signal);
  await flush();
  endProcess(end.exitCode, signal.aborted);
}

async function execute(run: Run, commandLine: CommandLine, controller: AbortController): Promise<End> {
  const { name, run: command, needs, json } = commandLine;
  await readEnvironment(run, commandLine.envFile);
  const { env, log } = run;
  const { signal } = controller;
  for (const warning of unknownVariables(env)) log.warn(warning);
  const config = readConfig(env, needs);
  setTimeout(() => abort(run, controller, new RunTimeout(config.timeout)), config.timeout * 1000);
  if (name === 'backup') lowerPriority(log);
  const outcome = await command({
    config,
    log,
    signal,
    startProgress: startProgress(),
    confirm: confirm(signal),
    searchPath: (process.env['PATH'] ?? '').split(delimiter).filter((dir) => dir !== ''),
    memoryBudget: memoryBudget(process.constrainedMemory()),
    version: version(),
  });
  const { summary = `${name}: done`, measured = [], partialFailure } = outcome;
  const end = partialFailure === undefined ? { exitCode: ExitCode.done, words: summary } : report(partialFailure, log);
  const mask = maskOf(env);
  try {
    await print(run, json ? `${maskedJson(documentOf(outcome, end), mask, 2)}\n` : textOf(outcome, mask), signal);
  } catch (error) {
    return { ...report(unread(error, summary), log), measured };
  }
  return { ...end, measured };
}

/** Reads the env file and makes the log anew. What decides over files of this machine comes from the process only. */
async function readEnvironment(run: Run, envFile: string | undefined): Promise<void> {
  if (envFile !== undefined && isEnvFileOfNode()) {
    throw new UsageError(
      'Without two dashes Node.js takes --env-file for its own, and obeys NODE_OPTIONS in that file.',
      'Put two dashes before the program: node -- dist/main.js … --env-file FILE',
    );
  }
  const { variables, warnings } = await readEnvFile(envFile, process.geteuid?.());
  const { SNAPSHOT_TERMINATION_LOG: misplaced, ...accepted } = variables;
  run.env = { ...accepted, ...definedOf(process.env) };
  run.log = makeLog(run.env);
  for (const [sentence, hint] of warnings) run.log.warn(sentence, { hint });
  if (misplaced !== undefined) {
    run.log.warn('SNAPSHOT_TERMINATION_LOG in an env file is ignored.', { hint: 'Set it in the environment.' });
  }
}

/** Whether Node has looked for the option, too: it does so in all words that no `--` precedes. */
function isEnvFileOfNode(): boolean {
  try {
    const words = readFileSync('/proc/self/cmdline', 'utf8').split('\0').slice(0, -1);
    return words[words.length - process.argv.length] !== '--';
  } catch {
    return false;
  }
}

/** etcd may work on the same processors, and its clients wait for it; for a backup nobody waits. */
function lowerPriority(log: Log): void {
  const { PRIORITY_BELOW_NORMAL } = constants.priority;
  try {
    if (getPriority() < PRIORITY_BELOW_NORMAL) setPriority(PRIORITY_BELOW_NORMAL);
  } catch (error) {
    log.debug('the priority stays as it is', { cause: messageOf(error) });
  }
}

/** @throws the abort's reason where it comes before all is written. A reader may leave early, as `head` does. */
async function print(run: Run, text: string | Buffer, signal: AbortSignal): Promise<void> {
  run.printed = true;
  await new Promise<void>((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
    process.stdout.write(text, (error: NodeJS.ErrnoException | null | undefined) => {
      if (error && error.code !== 'EPIPE') reject(error);
      else resolve();
    });
  });
}

function documentOf({ json }: Outcome, { error }: End): unknown {
  return error === undefined || Array.isArray(json) ? json : { ...(json as object), error };
}

function errorJson({ env }: Run, { error }: End): string {
  return `${maskedJson({ error }, maskOf(env), 2)}\n`;
}

/** Bytes are written as they are, but not to a terminal that could take them for commands. */
function textOf({ text }: Outcome, mask: (text: string) => string): string | Buffer {
  if (typeof text === 'string') return `${printableLines(mask(text))}\n`;
  if (!process.stdout.isTTY || printableLines(text.toString()) === text.toString()) return text;
  throw new UsageError('The value is not text, and is not written to a terminal.', 'Write it to a file: … > FILE');
}

function unread(error: unknown, summary: string): WorkerError {
  if (error instanceof UsageError) return error;
  const [code, why] =
    error instanceof Interrupted
      ? [error.exitCode, 'nobody has read it']
      : [ExitCode.unexpected, error instanceof RunTimeout ? 'nobody has read it' : messageOf(error)];
  const message = `The result could not be written to standard output: ${why}. What was done: ${summary}`;
  return new WorkerError(
    code,
    message,
    'Is the reader of standard output still at work, and its disk not full?',
    error,
  );
}

/** Ends the run on a signal, and at once on what nobody has caught. */
function watchProcess(run: Run, controller: AbortController): void {
  // A terminal that was closed, or a reader that left.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
  // Node prints warnings of libraries as bare text, which would stand among the lines of a JSON log.
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

/** Tells the run to end, and ends the process when it does not. */
function abort(run: Run, controller: AbortController, reason: Interrupted | RunTimeout): void {
  if (controller.signal.aborted) return;
  controller.abort(reason);
  setTimeout(() => endNow(run, reason), SHUTDOWN_GRACE_MS);
}

/** Reports the end if that was not done yet, without waiting for anything, and ends the process. */
function endNow(run: Run, reason: unknown): never {
  if (run.end === undefined) {
    const end = report(reason, run.log);
    run.end = end;
    writeTermination(run, end);
    if (run.json && !run.printed) process.stdout.write(errorJson(run, end));
  }
  endProcess(run.end.exitCode, true);
}

/** Waits until the last lines are written, where their reader is slow. */
async function flush(): Promise<void> {
  const unwritten = [process.stdout, process.stderr].filter((stream) => stream.writableLength > 0);
  const written = unwritten.map(async (stream) => new Promise((resolve) => stream.write('', resolve)));
  await Promise.race([Promise.all(written), sleep(FLUSH_MS)]);
}

function report(error: unknown, log: Log): End {
  if (error instanceof WorkerError) log.debug('what was behind the error', { cause: String(error.cause) });
  const { message, hint, exitCode } = error instanceof WorkerError ? error : unexpected(error);
  log.error(message, { hint, exitCode });
  const words = `${message} ${hint} (exit code ${exitCode})`;
  return { exitCode, words, error: { code: exitCode, message, hint } };
}

function unexpected(error: unknown): WorkerError {
  if (error instanceof RunTimeout) {
    const hint = 'Look at the lines before this one: a name server, a file system or a program may not answer.';
    return new WorkerError(ExitCode.unexpected, `${error.message}.`, hint, error);
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const hint = `Please report this: ${text.replaceAll(/\s*\n\s*/g, ' ')}`;
  return new WorkerError(ExitCode.unexpected, 'Something unexpected happened.', hint, error);
}

/** Writes the result for the status of the pod. Outside Kubernetes there is no such file, and it is not missed. */
function writeTermination({ env, log }: Run, { words }: End): void {
  const named = cleaned(env['SNAPSHOT_TERMINATION_LOG']);
  const problem = named === undefined ? undefined : pathProblem(named);
  if (problem !== undefined) return log.warn(`SNAPSHOT_TERMINATION_LOG ${problem}.`);
  try {
    writeTerminationLog(named ?? TERMINATION_LOG, maskOf(env)(words));
  } catch (error) {
    const hint = 'SNAPSHOT_TERMINATION_LOG must name a file that is there and may be written.';
    if (named !== undefined) log.warn(`The result cannot be left in ${named}: ${messageOf(error)}.`, { hint });
  }
}

/** Tells of the end where somebody is watching. The code for it is loaded only then. */
async function reportResult(
  { exitCode, measured = [] }: End,
  commandLine: CommandLine | undefined,
  { env, log }: Run,
  signal: AbortSignal,
): Promise<void> {
  const command = commandLine?.needs.reports;
  const monitoring = readMonitoring(env);
  if (command === undefined || (monitoring.pushgatewayUrl ?? monitoring.pingUrl) === undefined) return;
  const { reportEnd } = await import('./monitoring/report.ts');
  const end = { command, exitCode, at: new Date(), measured, version: version() };
  await reportEnd(end, monitoring, { signal, env: process.env, log });
}

function maskOf(env: Environment): (text: string) => string {
  return masker(secretsOf(env));
}

/** On a terminal a progress line may stand where the line is written. */
function writeToStderr(line: string): void {
  process.stderr.write(process.stderr.isTTY ? `${CLEAR_LINE}${line}` : line);
}

function makeLog(env: Environment): Log {
  const { format, level } = readLogConfig(env);
  return createLog(format ?? (process.stderr.isTTY ? 'text' : 'json'), level, writeToStderr, maskOf(env));
}

/** What the verifier may take in a container of so many bytes of memory; the rest of the program needs some, too. */
function memoryBudget(limit: number): number {
  const left = limit > 0 ? limit - 160 * MIB : Infinity;
  return Math.max(32 * MIB, Math.min(256 * MIB, left));
}

function startProgress(): StartProgress {
  if (!process.stderr.isTTY) return noProgress;
  return progressLine(process.stderr, () => performance.now());
}

/** Asks on the terminal. Anything but a yes is a no, also the end of the input. */
function confirm(signal: AbortSignal): Context['confirm'] {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return undefined;
  return async (question) => {
    const { createInterface } = await import('node:readline/promises');
    // Without line editing the terminal itself turns Ctrl-C into a signal.
    const terminal = createInterface({ input: process.stdin, output: process.stderr, terminal: false });
    try {
      const ended = once(terminal, 'close').then(() => '');
      const answered = terminal.question(`${printable(question)} [y/N] `, { signal }).catch(() => '');
      const answer = await Promise.race([answered, ended]);
      return /^y(es)?$/i.test(answer.trim());
    } finally {
      terminal.close();
    }
  };
}

/** Variables that are set, so that an empty one of the process does not hide one of the file. */
function definedOf(env: Environment): Environment {
  return Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''));
}

function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return (manifest as { version: string }).version;
}
