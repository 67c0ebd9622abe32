/** Measures the phases of a run. */
export class Stopwatch {
  readonly #start = performance.now();
  readonly #durations: Record<string, number> = {};

  async time<T>(phase: string, work: Promise<T>): Promise<T> {
    const start = performance.now();
    const result = await work;
    this.#durations[phase] = Math.round(performance.now() - start);
    return result;
  }

  /** Milliseconds of each finished phase, and of everything so far. */
  durations(): Readonly<Record<string, number>> & { readonly total: number } {
    return { ...this.#durations, total: Math.round(performance.now() - this.#start) };
  }
}
