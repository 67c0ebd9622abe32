import { ConfigurationError, hasCode, UsageError } from '../errors.ts';
import { openRegular, pathProblem, readNamed, whoElseWrites, whyUnreadable } from '../files.ts';
import { ORIGIN_RULE, parseOrigin, shownUrl } from '../url.ts';
import { namedFor, type Place, variableOf } from './place.ts';
import { TYPES, type ValueType } from './value-types.ts';
import { type VariableName, VARIABLES } from './variables.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

const UNITS = new Map(
  Object.entries({ s: 1, m: 60, h: 3600, d: 86_400, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 }),
);

/**
 * Reads single variables and collects what is wrong with them, so that all problems are reported at once. A method that finds a
 * problem returns a value that nobody sees, because `throwProblems` comes before.
 */
export class Reader {
  /** Whose variables it reads where there are several places. */
  readonly place: Place;
  readonly #env: Environment;
  readonly #problems: Set<string>;

  constructor(env: Environment, place: Place = 'first', problems = new Set<string>()) {
    this.place = place;
    this.#env = env;
    this.#problems = problems;
  }

  /** A reader of the variables of a place, which are named as those of the first one. */
  at(place: Place): Reader {
    return new Reader(this.#env, place, this.#problems);
  }

  /** @param problem completes "SNAPSHOT_… …" */
  problem(name: VariableName, problem: string): void {
    this.refuse(`${name} ${problem} (example: ${VARIABLES[name].example})`);
  }

  /** @param problem a sentence without its period, about more than the value of one of our variables */
  refuse(problem: string): void {
    this.#problems.add(namedFor(this.place, problem));
  }

  missing(name: VariableName): string {
    this.problem(name, 'is not set');
    return '';
  }

  /** @param hint another possible cause, as a sentence without its period */
  throwProblems(hint?: string): void {
    if (this.#problems.size === 0) return;
    throw new ConfigurationError(
      [...this.#problems],
      `${hint === undefined ? '' : `${hint}. `}Correct the variables (in Kubernetes: the Secret), and run the command again. Nothing was done.`,
    );
  }

  /**
   * For what protects snapshots. Elsewhere an empty variable is the same as none, but here a variable of a script that is not set
   * would store them without protection.
   */
  refuseEmpty(...names: readonly VariableName[]): void {
    for (const name of names) {
      if (this.#env[name] === undefined || this.isSet(name)) continue;
      this.problem(name, 'is empty: set it, or remove it');
    }
  }

  isSet(name: VariableName): boolean {
    return this.#value(name) !== undefined;
  }

  #value(name: VariableName): string | undefined {
    return cleaned(this.#env[variableOf(this.place, name)]);
  }

  text(name: VariableName): string | undefined {
    const value = this.#value(name);
    if (value === undefined) return undefined;
    const { type } = VARIABLES[name];
    const { pattern, rule } = TYPES[type];
    const problem = type === 'path' ? pathProblem(value) : pattern.test(value) ? undefined : rule;
    if (problem !== undefined) this.problem(name, problem);
    return value;
  }

  /** @param aliases other names of the choices, in lower case */
  choice<T extends string>(
    name: VariableName,
    choices: readonly T[],
    aliases: ReadonlyMap<string, T> = new Map(),
  ): T | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const choice = choices.find((candidate) => candidate === value) ?? aliases.get(value.toLowerCase());
    if (choice === undefined) this.problem(name, `must be one of ${choices.join(', ')}`);
    return choice;
  }

  /** A count, or a quantity in seconds or bytes. */
  number(name: VariableName): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const type: ValueType = TYPES[VARIABLES[name].type];
    const [, amount, unit = ''] = type.pattern.exec(value) ?? [];
    const number = Number(amount) * (UNITS.get(unit) ?? 1);
    if (number < (type.min ?? 0) || number > (type.max ?? Infinity)) this.problem(name, type.rule);
    return number;
  }

  /** A size, or a share of something. */
  sizeOrPercent(name: VariableName): { readonly bytes: number } | { readonly percent: number } | undefined {
    const bytes = this.number(name);
    const percent = /^(.*)%$/.exec(this.text(name) ?? '')?.[1];
    if (bytes === undefined) return undefined;
    return percent === undefined ? { bytes } : { percent: Number(percent) };
  }

  endpoints(name: VariableName): string[] {
    const parts = (this.text(name) ?? '').split(',').flatMap((part) => part.trim() || []);
    if (parts.length === 0) this.missing(name);
    const invalid = parts.filter((part) => parseOrigin(part, '2379') === undefined);
    const shown = invalid.map((part) => `"${shownUrl(part)}"`).join(', ');
    if (invalid.length > 0) this.problem(name, `contains ${shown}: an endpoint ${ORIGIN_RULE}`);
    return [...new Set(parts.flatMap((part) => parseOrigin(part, '2379') ?? []))];
  }

  /** An `https:` origin. */
  origin(name: VariableName): string | undefined {
    const value = this.text(name);
    const origin = parseOrigin(value ?? '', '');
    if (value !== undefined && origin?.startsWith('https:') !== true) {
      this.problem(name, 'must be a URL that begins with https://: protocol, host and port only');
    }
    return origin;
  }
}

/** Kubernetes and Docker keep the quotation marks of an env file: one matching pair around a value is not part of it. */
export function cleaned(value: string | undefined): string | undefined {
  const trimmed = value
    ?.trim()
    .replace(/^(["'])(.*)\1$/s, '$2')
    .trim();
  return trimmed === '' ? undefined : trimmed;
}

interface EnvFile {
  readonly variables: Environment;
  readonly warnings: readonly (readonly [sentence: string, hint: string])[];
}

const HINT = 'Write one NAME=VALUE per line, in UTF-8; a comment begins with #.';

/**
 * Not accepted from an env file: the run overwrites the file of the first, Node and the SDK read the others from the process before
 * and without us.
 */
const OF_PROCESS = /^(SNAPSHOT_TERMINATION_LOG|NODE_EXTRA_CA_CERTS|(HTTPS?|ALL|NO)_PROXY|(https?|all|no)_proxy)$/;

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
  const misplaced = Object.keys(variables).filter((name) => OF_PROCESS.test(name));
  const accepted = Object.entries(variables).filter(([name]) => !OF_PROCESS.test(name));
  const isSet = Object.entries(ofProcess).filter(([, value]) => value !== undefined && value !== '');
  return {
    variables: { ...ofProcess, ...Object.fromEntries([...accepted, ...isSet]) },
    warnings: [
      ...warnings,
      ...misplaced.map((name) => [`${name} in an env file is ignored.`, 'Set it in the environment.'] as const),
    ],
  };
}

/**
 * The variables of a file.
 * @param named with `--env-file`; undefined = `.env` in the working directory, unless another user can have put it there
 * @param user that owns the default file, if root does not; undefined on systems without owners of files
 * @throws UsageError if the named file cannot be read, or is not an env file
 */
async function readEnvFile(named: string | undefined, user: number | undefined): Promise<EnvFile> {
  if (named === undefined) return readDefault(user);
  const bytes = await readNamed(named, 'env file', HINT, { streams: true });
  const { variables, problem } = await parse(bytes);
  if (problem !== undefined) throw new UsageError(`The env file ${named} ${problem}.`, HINT);
  const isEmpty = Object.keys(variables).length === 0 && named !== '/dev/null';
  return { variables, warnings: isEmpty ? [[`The env file ${named} sets no variable.`, HINT]] : [] };
}

/** Another user who can write to the directory or the file could choose where secrets are sent. */
async function readDefault(user: number | undefined): Promise<EnvFile> {
  let problem: string | undefined;
  try {
    const { file, stats } = await openRegular('.env', 'refuse');
    await using opened = file;
    problem = whoElseWrites(stats, user);
    if (problem === undefined) {
      const parsed = await parse(await opened.readFile());
      if (parsed.problem === undefined) return { variables: parsed.variables, warnings: [] };
      problem = parsed.problem;
    }
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return { variables: {}, warnings: [] };
    problem = whyUnreadable(error);
  }
  const sentence = `The file .env in the working directory is ignored: it ${problem}.`;
  return { variables: {}, warnings: [[sentence, 'To use it, give --env-file .env.']] };
}

/** @returns also the problem of a file that is not an env file, in words that follow its name */
async function parse(bytes: Buffer): Promise<{ readonly variables: Environment; readonly problem?: string }> {
  const { default: dotenv } = await import('dotenv');
  const variables = dotenv.parse(bytes);
  const text = bytes.toString();
  // Its lines look like variables, but the values of a Secret are base64.
  if (/^apiVersion:/m.test(text) && /^kind:/m.test(text)) return { variables, problem: 'is a Kubernetes manifest' };
  const isOther = Object.keys(variables).length === 0 && /^\s*[^#\s]/m.test(text);
  if (isOther) return { variables, problem: 'has no line NAME=VALUE' };
  const line = ignoredLine(text, dotenv.parse);
  return line === undefined ? { variables } : { variables, problem: `has no NAME=VALUE in line ${line}` };
}

const MARK = 'LINE_OF_THE_ENV_FILE_';

/**
 * The number of the first line that the parser ignores, although it is neither empty nor a comment. A line of a quoted value looks the
 * same, but a variable in front of it becomes a part of the value.
 */
function ignoredLine(text: string, read: (text: string) => Readonly<Record<string, string>>): number | undefined {
  const isVariable = (line: string): boolean => Object.keys(read(line)).length > 0;
  const marked = text
    .split(/\r\n?|\n/)
    .map((line, i) => (/^\s*(#|$)/.test(line) || isVariable(line) ? line : `${MARK}${i + 1}=x\n${line}`));
  const first = Object.keys(read(marked.join('\n'))).find((name) => name.startsWith(MARK));
  return first === undefined ? undefined : Number(first.slice(MARK.length));
}
