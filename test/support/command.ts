import { delimiter } from 'node:path';
import { parseCommandLine } from '../../src/cli.ts';
import { readConfig, readLogConfig, secretsOf, unknownVariables } from '../../src/config/config.ts';
import { WorkerError } from '../../src/errors.ts';
import { createLog } from '../../src/log.ts';
import { memoryBudget, version } from '../../src/process.ts';
import { noProgress } from '../../src/progress.ts';
import { maskedJson, masker } from '../../src/secret.ts';
import { printableLines, withColours } from '../../src/text.ts';
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
  const logged = (
    error: unknown,
    level: 'error' | 'warn' = 'error',
  ): { code: number; message: string; hint: string } => {
    if (!(error instanceof WorkerError)) throw error;
    const { message, hint, exitCode, problems } = error;
    log[level](message, { hint, exitCode, ...(problems.length > 1 && { problems }) });
    return { code: exitCode, message, hint };
  };
  const isJson = args.includes('--json');
  try {
    const { run, needs } = parseCommandLine(args);
    for (const warning of unknownVariables(variables)) log.warn(warning);
    const { text, json, partialFailure, isDryRun } = await run({
      config: readConfig(variables, needs),
      log,
      signal: new AbortController().signal,
      startProgress: noProgress,
      confirm: undefined,
      searchPath: (variables['PATH'] ?? process.env['PATH'] ?? '').split(delimiter),
      memoryBudget: memoryBudget(),
      version: version(),
    });
    const error = partialFailure && logged(partialFailure, isDryRun === true ? 'warn' : 'error');
    const document = error === undefined || Array.isArray(json) ? json : { ...(json as object), error };
    const shown = withColours(text.toString(), false, (part) => printableLines(mask(part)));
    const stdout = isJson ? maskedJson(document, mask, 2) : shown;
    return { code: error?.code ?? 0, stdout: `${stdout}\n`, stderr };
  } catch (thrown) {
    const error = logged(thrown);
    return { code: error.code, stdout: isJson ? `${maskedJson({ error }, mask, 2)}\n` : '', stderr };
  }
}

/** Runs a command, which must end with this code, and reads the document that it prints. */
export async function jsonOf<T>(args: readonly string[], variables: Variables, code = 0): Promise<T> {
  const finished = await runCommand([...args, '--json'], variables);
  if (finished.code !== code) throw new Error(`${args.join(' ')} ended with ${finished.code}: ${finished.stderr}`);
  return JSON.parse(finished.stdout) as T;
}
