#!/usr/bin/env -S node --max-semi-space-size=1 --no-concurrent-array-buffer-sweeping --expose-gc --
// As in the Dockerfile. The dashes keep Node from taking our --env-file for its own.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { constants, getPriority, setPriority } from 'node:os';
import { delimiter } from 'node:path';
import { type CommandLine, helpText, parseCommandLine } from './cli.ts';
import type { Context } from './commands/command.ts';
import { readConfig, readLogConfig, readMonitoring, secretsOf, unknownVariables } from './config.ts';
import { ExitCode, Interrupted, messageOf, RunTimeout, UsageError, WorkerError } from './errors.ts';
import { createLog, type Log } from './log.ts';
import { noProgress, progressLine, type StartProgress } from './progress.ts';
import type { Sample } from './monitoring/metrics.ts';
import { TERMINATION_LOG, writeTerminationLog } from './monitoring/terminationlog.ts';
import { cleaned, type Environment } from './reader.ts';
import { masker } from './secret.ts';

/** An aborted run has this long for its last words; they include withdrawing a blob that is not proven yet. */
const FAREWELL_MS = 1_700;

const MIB = 1024 * 1024;

/** Runs one command and returns the exit code. The only place that touches the process. */
async function main(): Promise<number> {
  let env: Environment = process.env;
  let log = makeLog(env);
  let commandLine: CommandLine | undefined;
  let end: End;
  const controller = new AbortController();
  // Node prints warnings of libraries as bare text, which would stand among the lines of a JSON log.
  process
    .removeAllListeners('warning')
    .on('warning', ({ message }) => log.debug('a library warns', { warning: message }));
  try {
    commandLine = parseCommandLine(process.argv.slice(2));
    if (commandLine.ask !== undefined) {
      process.stdout.write(`${commandLine.ask === 'help' ? helpText() : version()}\n`);
      return ExitCode.done;
    }
    env = { ...(await readEnvFile(commandLine.envFile)), ...definedOf(process.env) };
    log = makeLog(env);
    end = await run(commandLine, env, log, controller);
  } catch (error) {
    end = report(error, log);
  }
  // From here on nothing changes it any more, not even an end by force.
  process.exitCode = end.exitCode;
  leaveWords(end.words, env, log);
  await tellEnd(end, commandLine, env, log, controller.signal);
  return end.exitCode;
}

/** How a run ended. */
interface End {
  readonly exitCode: number;
  /** In one line. */
  readonly words: string;
  readonly measured?: readonly Sample[];
}

async function run(
  { name, run: command, needs, json }: CommandLine,
  env: Environment,
  log: Log,
  controller: AbortController,
): Promise<End> {
  for (const warning of unknownVariables(env)) log.warn(warning);
  const config = readConfig(env, needs);
  abortInTime(controller, config.timeout, env, log);
  if (name === 'backup') giveWay(log);
  const { signal } = controller;
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
  const text = json ? JSON.stringify(outcome.json, undefined, 2) : outcome.text;
  await print(typeof text === 'string' ? `${text}\n` : text);
  const { summary = `${name}: done`, measured = [], shortfall } = outcome;
  return {
    ...(shortfall === undefined ? { exitCode: ExitCode.done, words: summary } : report(shortfall, log)),
    measured,
  };
}

/** etcd may work on the same processors, and its clients wait for it; for a backup nobody waits. */
function giveWay(log: Log): void {
  const { PRIORITY_BELOW_NORMAL } = constants.priority;
  try {
    if (getPriority() < PRIORITY_BELOW_NORMAL) setPriority(PRIORITY_BELOW_NORMAL);
  } catch (error) {
    log.debug('the priority stays as it is', { cause: messageOf(error) });
  }
}

/** Ends when all of it is written, for a pipe takes little at once. Its reader may leave early, as `head` does. */
async function print(text: string | Buffer): Promise<void> {
  process.stdout.on('error', () => {});
  await new Promise<void>((resolve, reject) => {
    process.stdout.write(text, (error: NodeJS.ErrnoException | null | undefined) => {
      if (error && error.code !== 'EPIPE') reject(error);
      else resolve();
    });
  });
}

/** Aborts the run on SIGINT, SIGTERM and when its time is over, and ends the process when it does not end by itself. */
function abortInTime(controller: AbortController, timeout: number, env: Environment, log: Log): void {
  const abort = (reason: Interrupted | RunTimeout, code: number): void => {
    if (controller.signal.aborted) return;
    controller.abort(reason);
    setTimeout(() => {
      if (process.exitCode === undefined) leaveWords(`${reason.message} (exit code ${code})`, env, log);
      process.exit(process.exitCode ?? code);
    }, FAREWELL_MS);
  };
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      const reason = new Interrupted(name);
      log.debug('a signal came', { signal: name });
      abort(reason, reason.exitCode);
    });
  }
  setTimeout(() => abort(new RunTimeout(timeout), ExitCode.unexpected), timeout * 1000);
}

function report(error: unknown, log: Log): End {
  if (error instanceof WorkerError) log.debug('what was behind the error', { cause: String(error.cause) });
  const { message, hint, exitCode } = error instanceof WorkerError ? error : unexpected(error);
  log.error(message, { hint, exitCode });
  return { exitCode, words: `${message} ${hint} (exit code ${exitCode})` };
}

function unexpected(error: unknown): WorkerError {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return new WorkerError(ExitCode.unexpected, 'Something unexpected happened.', `Please report this: ${text}`, error);
}

/** Leaves the last words for the status of the pod. Outside Kubernetes there is no such file, and it is not missed. */
function leaveWords(words: string, env: Environment, log: Log): void {
  const named = cleaned(env['SNAPSHOT_TERMINATION_LOG']);
  try {
    writeTerminationLog(named ?? TERMINATION_LOG, masker(secretsOf(env))(words));
  } catch (error) {
    const hint = 'SNAPSHOT_TERMINATION_LOG must name a file that is there and may be written.';
    if (named !== undefined) log.warn(`The result cannot be left in ${named}: ${messageOf(error)}.`, { hint });
  }
}

/** Tells of the end where somebody is watching. The code for it is loaded only then. */
async function tellEnd(
  { exitCode, measured = [] }: End,
  commandLine: CommandLine | undefined,
  env: Environment,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const command = commandLine?.needs.reports;
  const monitoring = readMonitoring(env);
  if (command === undefined || (monitoring.pushgatewayUrl ?? monitoring.pingUrl) === undefined) return;
  const { reportEnd } = await import('./monitoring/report.ts');
  const end = { command, exitCode, at: new Date(), measured, version: version() };
  await reportEnd(end, monitoring, { signal, env: process.env, log });
}

function makeLog(env: Environment): Log {
  const { format, level } = readLogConfig(env);
  const mask = masker(secretsOf(env));
  return createLog(format ?? (process.stderr.isTTY ? 'text' : 'json'), level, (line) =>
    process.stderr.write(mask(line)),
  );
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
      const answered = terminal.question(`${question} [y/N] `, { signal }).catch(() => '');
      const answer = await Promise.race([answered, ended]);
      return /^y(es)?$/i.test(answer.trim());
    } finally {
      terminal.close();
    }
  };
}

async function readEnvFile(named: string | undefined): Promise<Environment> {
  try {
    const text = readFileSync(named ?? '.env');
    const { default: dotenv } = await import('dotenv');
    return dotenv.parse(text);
  } catch (error) {
    if (named === undefined) return {};
    throw new UsageError(
      `The file ${named} of --env-file cannot be read.`,
      'Check the path and its permissions.',
      error,
    );
  }
}

/** Variables that are set, so that an empty one of the process does not hide one of the file. */
function definedOf(env: Environment): Environment {
  return Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''));
}

function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return (manifest as { version: string }).version;
}

process.exit(await main());
