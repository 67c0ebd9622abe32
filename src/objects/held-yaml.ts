import { UsageError } from '../errors.ts';

/** Characters: with them, a command needs about 240 MB. */
const MAX_HELD = 16_000_000;

/** Limits the YAML that is kept in memory until all of it is known. */
export class HeldYaml {
  readonly #what: string;
  readonly #purpose: string;
  readonly #instead: string;
  #size = 0;

  /**
   * @param what the objects that it is of, for the message
   * @param purpose why it is kept, after `too many to be`
   * @param instead how to do without, in words before `or select fewer`
   */
  constructor(what: string, purpose: string, instead: string) {
    this.#what = what;
    this.#purpose = purpose;
    this.#instead = instead;
  }

  /** @throws UsageError when it is too much */
  add(text: string): void {
    this.#size += text.length;
    if (this.#size <= MAX_HELD) return;
    throw new UsageError(
      `${this.#what} are more than ${MAX_HELD / 1e6} MB of YAML, too many to be ${this.#purpose}.`,
      `${this.#instead}, or select fewer with --namespace, --kind, --name or --selector.`,
    );
  }
}
