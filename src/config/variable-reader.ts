import { ConfigurationError } from '../errors.ts';
import { pathProblem } from '../files.ts';
import { parseOrigin, shownUrl } from '../url.ts';
import { TYPES, type ValueType, type VariableName, VARIABLES } from './variables.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

const UNITS = new Map(
  Object.entries({ s: 1, m: 60, h: 3600, d: 86_400, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 }),
);

/**
 * Reads single variables and collects what is wrong with them, so that all problems are reported at once. A method that finds a
 * problem returns a value that nobody sees, because `throwProblems` comes before.
 */
export class Reader {
  readonly #env: Environment;
  readonly #problems = new Set<string>();

  constructor(env: Environment) {
    this.#env = env;
  }

  /** @param problem completes "SNAPSHOT_… …" */
  problem(name: VariableName, problem: string): void {
    this.refuse(`${name} ${problem} (example: ${VARIABLES[name].example})`);
  }

  /** @param problem a sentence without its period, about more than the value of one of our variables */
  refuse(problem: string): void {
    this.#problems.add(problem);
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
      `${hint === undefined ? '' : `${hint}. `}Correct the variables (in Kubernetes: the Secret) and run again; nothing was done.`,
    );
  }

  isSet(name: VariableName): boolean {
    return cleaned(this.#env[name]) !== undefined;
  }

  text(name: VariableName): string | undefined {
    const value = cleaned(this.#env[name]);
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
    const value = this.text(name) ?? '';
    // JSON has commas of its own.
    const isJson = /^\[\s*["']/.test(value);
    const parts = (isJson ? [value] : value.split(',')).map((part) => part.trim()).filter((part) => part !== '');
    if (parts.length === 0) this.missing(name);
    const origins = parts.flatMap((part) => {
      const parsed = parseOrigin(part, ['http:', 'https:'], '2379');
      if ('origin' in parsed) return [parsed.origin];
      this.problem(name, `names "${shownUrl(part)}", which ${parsed.problem}`);
      return [];
    });
    return [...new Set(origins)];
  }

  origin(name: VariableName): string | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const parsed = parseOrigin(value, ['https:'], '');
    if ('origin' in parsed) return parsed.origin;
    this.problem(name, parsed.problem);
    return undefined;
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
