import type { Log } from './log.ts';

/** What an operator should know although the run goes on: told in the log at once, and in the result. */
export class Findings {
  readonly #log: Log;
  readonly #sentences: string[] = [];

  constructor(log: Log) {
    this.#log = log;
  }

  add(sentence: string, hint?: string): void {
    this.#log.warn(sentence, hint === undefined ? {} : { hint });
    this.#sentences.push(sentence);
  }

  get sentences(): readonly string[] {
    return this.#sentences;
  }
}
