import { delimiter } from 'node:path';
import { parseCommandLine } from '../../src/cli.ts';
import { readConfig, readLogConfig, secretsOf, unknownVariables } from '../../src/config/config.ts';
import { prepareSignatures } from '../../src/commands/command.ts';
import { WorkerError } from '../../src/errors.ts';
import { createLog } from '../../src/log.ts';
import { endOf, failed, jsonOf as errorJson, outputOf } from '../../src/main.ts';
import { memoryBudget, version } from '../../src/process.ts';
import { noProgress } from '../../src/progress.ts';
import { masker } from '../../src/secret.ts';
import type { Finished, Variables } from './process.ts';

export type Output = Pick<Finished, 'code' | 'stdout' | 'stderr'>;

/**
 * Runs a command within the test, for a start of the worker takes most of the CPU time that a command needs. What belongs to
 * the process is tested with `runWorker`: signals, timeouts, `.env` files, output that cannot be written, monitoring.
 * @throws what the worker does not expect
 */
export async function runCommand(args: readonly string[], variables: Variables): Promise<Output> {
  let stderr = '';
  const mask = masker(secretsOf(variables));
  const log = createLog('json', readLogConfig(variables).level, (line) => (stderr += line), mask);
  const settings = { mask, json: args.includes('--json') };
  try {
    const { name, run, needs } = parseCommandLine(args);
    for (const warning of unknownVariables(variables)) log.warn(warning);
    const config = readConfig(variables, needs);
    const outcome = await run({
      config,
      signatures: await prepareSignatures(config, log),
      log,
      signal: new AbortController().signal,
      startProgress: noProgress,
      isTerminal: false,
      confirm: undefined,
      askPassphrase: undefined,
      searchPath: (variables['PATH'] ?? process.env['PATH'] ?? '').split(delimiter),
      memoryBudget: memoryBudget(),
      known: {},
      version: version(),
    });
    const end = endOf(name, outcome, log);
    return { code: end.exitCode, stdout: outputOf(settings, outcome, end).toString(), stderr };
  } catch (thrown) {
    if (!(thrown instanceof WorkerError)) throw thrown;
    const { exitCode, error } = failed(thrown, log);
    return { code: exitCode, stdout: settings.json ? errorJson(settings, { error }) : '', stderr };
  }
}

/** Runs a command, which must end with this code, and reads the document that it prints. */
export async function jsonOf<T>(args: readonly string[], variables: Variables, code = 0): Promise<T> {
  const finished = await runCommand([...args, '--json'], variables);
  if (finished.code !== code) throw new Error(`${args.join(' ')} ended with ${finished.code}: ${finished.stderr}`);
  return JSON.parse(finished.stdout) as T;
}
