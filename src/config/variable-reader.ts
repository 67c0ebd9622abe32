import { ConfigurationError } from '../errors.ts';
import { pathProblem } from '../files.ts';
import { originProblem, shownUrl } from '../url.ts';
import { type VariableName, VARIABLES } from './variables.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** What a value must look like, and how that is said. */
export interface Rule {
  readonly pattern: RegExp;
  readonly demand: string;
}

const SIZES = { '': 1, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 } as const;
const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;

/** Reads single variables and collects what is wrong with them, so that all faults are told at once. */
export class Reader {
  readonly #env: Environment;
  readonly #faults: string[] = [];

  constructor(env: Environment) {
    this.#env = env;
  }

  fault(name: VariableName, problem: string): void {
    const { example } = VARIABLES[name];
    this.#faults.push(`${name} ${problem} (example: ${example})`);
  }

  /** Notes what cannot be accepted although it is no variable of ours. @param problem a sentence without its full stop */
  refuse(problem: string): void {
    this.#faults.push(problem);
  }

  /** Notes the fault and stands in for the value, which nobody gets to see because `throwFaults` comes before. */
  missing(name: VariableName): string {
    this.fault(name, 'is not set');
    return '';
  }

  /** @param hint what else may be meant */
  throwFaults(hint?: string): void {
    if (this.#faults.length === 0) return;
    throw new ConfigurationError(
      this.#faults,
      `${hint === undefined ? '' : `${hint}. `}Correct the variables (in Kubernetes: the Secret) and run again; nothing was done.`,
    );
  }

  text(name: VariableName, rule?: Rule): string | undefined {
    const value = cleaned(this.#env[name]);
    if (value === undefined) return undefined;
    if (rule !== undefined && !rule.pattern.test(value)) this.fault(name, rule.demand);
    const problem = 'isPath' in VARIABLES[name] ? pathProblem(value) : undefined;
    if (problem !== undefined) this.fault(name, problem);
    return value;
  }

  isSet(name: VariableName): boolean {
    return cleaned(this.#env[name]) !== undefined;
  }

  /** @param aliases other names of the choices, in lower case */
  choice<T extends string>(
    name: VariableName,
    choices: readonly T[],
    aliases: Readonly<Record<string, T>> = {},
  ): T | undefined {
    const value = cleaned(this.#env[name]);
    if (value === undefined) return undefined;
    const alias = Object.entries(aliases).find(([other]) => other === value.toLowerCase())?.[1];
    const choice = choices.find((candidate) => candidate === value) ?? alias;
    if (choice === undefined) this.fault(name, `must be one of ${choices.join(', ')}`);
    return choice;
  }

  count(name: VariableName): number | undefined {
    const value = cleaned(this.#env[name]);
    if (value === undefined) return undefined;
    if (!/^[1-9]\d{0,5}$/.test(value)) this.fault(name, 'must be a whole number from 1 on');
    return Number(value);
  }

  seconds(name: VariableName): number | undefined {
    const value = cleaned(this.#env[name]);
    if (value === undefined) return undefined;
    const match = /^(\d{1,7})([smhd]?)$/.exec(value);
    const unit = match?.[2] as keyof typeof SECONDS | '' | undefined;
    const seconds = Number(match?.[1]) * SECONDS[unit || 's'];
    // A timer of Node holds at most 2^31 ms, which is 24 days.
    if (match === null || seconds < 1 || seconds > 20 * SECONDS.d) {
      this.fault(name, 'must be seconds, or a duration such as 90s, 10m or 2h, from 1s to 20d');
    }
    return seconds;
  }

  /**
   * Seconds of an age that things may reach. The unit must be named and hours are the least, because elsewhere a plain number
   * means days and `6m` half a year: what is misunderstood here is deleted.
   */
  age(name: VariableName): number | undefined {
    const value = cleaned(this.#env[name]);
    if (value === undefined) return undefined;
    const match = /^(\d{1,7})([smhd])$/.exec(value);
    const seconds = Number(match?.[1]) * SECONDS[match?.[2] as keyof typeof SECONDS];
    if (match === null || seconds < SECONDS.h) {
      this.fault(name, 'must be a duration such as 36h or 14d, from 1h on (m is minutes)');
    }
    return seconds;
  }

  /** Bytes. */
  size(name: VariableName): number | undefined {
    const value = cleaned(this.#env[name]);
    if (value === undefined) return undefined;
    const match = /^(\d{1,9})(|B|KiB|MiB|GiB|TiB)$/.exec(value);
    if (match === null) this.fault(name, 'must be a size such as 512MiB or 1GiB');
    return Number(match?.[1]) * SIZES[match?.[2] as keyof typeof SIZES];
  }

  /** A size, or a share of something from 0% to 90%. */
  sizeOrPercent(name: VariableName): { readonly bytes: number } | { readonly percent: number } | undefined {
    const value = cleaned(this.#env[name]);
    if (value === undefined) return undefined;
    const percent = /^(\d|[1-8]\d|90)%$/.exec(value)?.[1];
    if (percent !== undefined) return { percent: Number(percent) };
    const size = /^(\d{1,9})(|B|KiB|MiB|GiB|TiB)$/.exec(value);
    if (size === null) this.fault(name, 'must be a size such as 2GiB, or a percentage from 0% to 90%');
    return { bytes: Number(size?.[1]) * SIZES[size?.[2] as keyof typeof SIZES] };
  }

  endpoints(name: VariableName): string[] {
    const value = cleaned(this.#env[name]) ?? '';
    // The commas of a JSON list are not between the URLs alone.
    const isJson = /^\[\s*["']/.test(value);
    const parts = (isJson ? [value] : value.split(',')).map((part) => part.trim()).filter((part) => part !== '');
    if (parts.length === 0) this.missing(name);
    const origins = parts.flatMap((part) => {
      const parsed = parseOrigin(part, ['http:', 'https:'], '2379');
      if ('origin' in parsed) return [parsed.origin];
      this.fault(name, `names "${shownUrl(part)}", which ${parsed.problem}`);
      return [];
    });
    return [...new Set(origins)];
  }

  origin(name: VariableName): string | undefined {
    const value = cleaned(this.#env[name]);
    if (value === undefined) return undefined;
    const parsed = parseOrigin(value, ['https:'], '');
    if ('origin' in parsed) return parsed.origin;
    this.fault(name, parsed.problem);
    return undefined;
  }
}

/** Protocol, host and port of a URL that has nothing else, or what is wrong with it, in words that follow its name. */
export function parseOrigin(
  value: string,
  protocols: readonly string[],
  defaultPort: string,
): { readonly origin: string } | { readonly problem: string } {
  const problem = originProblem(value, protocols);
  if (problem !== undefined) return { problem };
  const { protocol, hostname } = new URL(value);
  // The URL class drops a port that is its protocol's own, so it is looked for in the text.
  const port = /:(\d+)\/?$/.exec(value)?.[1] ?? defaultPort;
  return { origin: `${protocol}//${hostname}${port === '' ? '' : `:${Number(port)}`}` };
}

/** Kubernetes and Docker keep the quotation marks of an env file in the value: one matching pair around it is no part of it. */
export function cleaned(value: string | undefined): string | undefined {
  const trimmed = value
    ?.trim()
    .replace(/^(["'])(.*)\1$/s, '$2')
    .trim();
  return trimmed === '' ? undefined : trimmed;
}
