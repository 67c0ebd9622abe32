import { readFile } from 'node:fs/promises';
import { hasCode, UsageError } from '../errors.ts';
import { openRegular, readNamed, whyUnreadable } from '../files.ts';
import type { Environment } from './variable-reader.ts';

interface EnvFile {
  readonly variables: Environment;
  readonly warnings: readonly (readonly [sentence: string, hint: string])[];
}

const HINT = 'An env file has lines NAME=VALUE, in UTF-8.';

/**
 * The environment of a run: the variables of the process, and those of an env file that the process does not set. An empty
 * variable of the process does not hide one of the file.
 * @param named with `--env-file`
 * @throws UsageError
 */
export async function readEnvironment(
  named: string | undefined,
  ofProcess: Environment,
  user: number | undefined,
): Promise<EnvFile> {
  const { variables, warnings } = await readEnvFile(named, user);
  // The run overwrites this file: an env file must not choose it.
  const { SNAPSHOT_TERMINATION_LOG: misplaced, ...accepted } = variables;
  const isSet = Object.entries(ofProcess).filter(([, value]) => value !== undefined && value !== '');
  return {
    variables: { ...accepted, ...Object.fromEntries(isSet) },
    warnings: [
      ...warnings,
      ...(misplaced === undefined
        ? []
        : [['SNAPSHOT_TERMINATION_LOG in an env file is ignored.', 'Set it in the environment.'] as const]),
    ],
  };
}

/** The path that a shell passes for `<(command)`, and that of an empty file: the only ones that may be no regular files. */
const STREAMS = /^\/dev\/(null|stdin|fd\/\d+)$/;

/**
 * The variables of a file.
 * @param named with `--env-file`; undefined = `.env` in the working directory, unless another user can have put it there
 * @param user that owns the default file, if root does not; undefined on systems without owners of files
 * @throws UsageError if the named file cannot be read, or is of another kind
 */
async function readEnvFile(named: string | undefined, user: number | undefined): Promise<EnvFile> {
  if (named === undefined) return readDefault(user);
  const bytes = STREAMS.test(named) ? await readFile(named) : await readNamed(named, 'env file', HINT);
  const { variables, problem } = await parse(bytes);
  if (problem !== undefined) throw new UsageError(`The env file ${named} ${problem}.`, HINT);
  const isEmpty = Object.keys(variables).length === 0 && named !== '/dev/null';
  return { variables, warnings: isEmpty ? [[`The env file ${named} sets no variable.`, HINT]] : [] };
}

/** Another user who can write to the directory or the file could choose where secrets are sent. */
async function readDefault(user: number | undefined): Promise<EnvFile> {
  try {
    const { file, stats } = await openRegular('.env', 'refuse');
    try {
      if (user !== undefined && stats.uid !== user && stats.uid !== 0) return ignored('belongs to another user');
      if (user !== undefined && (stats.mode & 0o022) !== 0)
        return ignored('can be written by other users (chmod go-w)');
      const { variables, problem } = await parse(await file.readFile());
      return problem === undefined ? { variables, warnings: [] } : ignored(problem);
    } finally {
      await file.close();
    }
  } catch (error) {
    return hasCode(error, 'ENOENT') ? { variables: {}, warnings: [] } : ignored(whyUnreadable(error));
  }
}

function ignored(why: string): EnvFile {
  const sentence = `The file .env of the working directory is ignored: it ${why}.`;
  return { variables: {}, warnings: [[sentence, 'Name it with --env-file to use it.']] };
}

async function parse(bytes: Buffer): Promise<{ readonly variables: Environment; readonly problem?: string }> {
  const { default: dotenv } = await import('dotenv');
  const variables = dotenv.parse(bytes);
  const problem = kindOf(bytes, Object.keys(variables).length > 0);
  return problem === undefined ? { variables } : { variables, problem };
}

/** The kind of a file that is no env file, in words that follow its name. */
function kindOf(bytes: Buffer, hasVariables: boolean): string | undefined {
  const text = bytes.toString();
  // Its lines look like variables, but the values of a Secret are base64.
  if (/^apiVersion:/m.test(text) && /^kind:/m.test(text)) return 'is a Kubernetes manifest';
  if (hasVariables || text.trim() === '') return undefined;
  if (bytes.includes(0)) return 'is in UTF-16';
  if (/^\s*[[{]/.test(text)) return 'is JSON';
  if (/^\s*(set\s+\w+=|\$env:)/im.test(text)) return 'is a script for Windows';
  return /^\s*[^#\s]/m.test(text) ? 'has no line NAME=VALUE' : undefined;
}
