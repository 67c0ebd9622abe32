import { inspect } from 'node:util';

const HIDDEN = '[secret]';

/** A value that cannot be printed by accident: only `reveal()` gives it, every other way of showing it is masked. */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return HIDDEN;
  }

  toJSON(): string {
    return HIDDEN;
  }

  [inspect.custom](): string {
    return HIDDEN;
  }
}

/** Tokens are got on the way, so they are known by their look only. */
const JSON_WEB_TOKEN = /\bey[\w-]+\.[\w-]+\.[\w-]+/g;

/**
 * A last net under the wrapping, for text of libraries that quote what they were given: replaces every form in which the
 * secrets could stand in a message.
 */
export function masker(secrets: readonly Secret[]): (text: string) => string {
  const forms = secrets.flatMap((secret) => {
    const value = secret.reveal();
    return [
      value,
      encodeURIComponent(value),
      JSON.stringify(value).slice(1, -1),
      Buffer.from(value).toString('base64'),
    ];
  });
  const longestFirst = [...new Set(forms)].filter((form) => form !== '').toSorted((a, b) => b.length - a.length);
  return (text) =>
    longestFirst.reduce((masked, form) => masked.replaceAll(form, HIDDEN), text).replace(JSON_WEB_TOKEN, HIDDEN);
}
