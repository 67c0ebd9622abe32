import { inspect } from 'node:util';

const HIDDEN = '[secret]';

/** A value that cannot be printed by accident: only `reveal()` returns it, every other way to show it is masked. */
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

/** Characters: a shorter value is in many words by chance, and to mask it there would reveal it. */
const MIN_MASKED = 6;

/** Tokens and signatures of others are recognised by their form. */
const JSON_WEB_TOKEN = /\beyJ[\w-]+\.[\w-]+\.[\w-]*/g;
const AGE_IDENTITY = /AGE-SECRET-KEY-(PQ-)?1[0-9A-Z]+/gi;
const SIGNATURE = /(\bsig(?:=|%3D))[\w%+/=~-]+/gi;

/**
 * The last protection, for the messages of libraries that quote what they were given: replaces every form of the secrets in a
 * text. Use it on values before they are rendered: masked JSON is not always JSON.
 */
export function masker(secrets: readonly Secret[]): (text: string) => string {
  const forms = secrets.map((secret) => secret.reveal()).flatMap(formsOf);
  const longestFirst = [...new Set(forms)].filter(({ length }) => length >= MIN_MASKED);
  longestFirst.sort((a, b) => b.length - a.length);
  return (text) =>
    longestFirst
      .reduce((masked, form) => masked.replaceAll(form, HIDDEN), text)
      .replace(JSON_WEB_TOKEN, HIDDEN)
      .replace(AGE_IDENTITY, HIDDEN)
      .replace(SIGNATURE, `$1${HIDDEN}`);
}

function formsOf(value: string): string[] {
  if (value.length < MIN_MASKED) return [];
  const percent = encodeURIComponent(value.toWellFormed());
  return [
    value,
    percent,
    percent.replace(/%../g, (code) => code.toLowerCase()),
    new URLSearchParams({ '': value }).toString().slice(1),
    JSON.stringify(value).slice(1, -1),
    // Without padding, which depends on what follows.
    Buffer.from(value).toString('base64').replace(/=+$/, ''),
    Buffer.from(value).toString('base64url'),
  ];
}

/** JSON whose texts are masked before they are rendered, so that it stays JSON. */
export function maskedJson(value: unknown, mask: (text: string) => string, indent?: number): string {
  const masked = (_: string, part: unknown): unknown => (typeof part === 'string' ? mask(part) : part);
  return JSON.stringify(value, masked, indent);
}

const LOOKS: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN/, 'a PEM'],
  [/^\s*eyJ[\w-]+\.[\w-]+\.[\w-]*\s*$/, 'a token'],
  [/AGE-SECRET-KEY-/i, 'a private key'],
  // Base64 of a PEM and of an identity file, and an Ed25519 key in DER.
  [/^\s*(LS0tLS1CRUdJ|QUdFLVNFQ1JF|IyBwdWJsaWMga2V5|IyBjcmVhdGVk|MC4CAQAwBQYDK2V)/, 'a private key'],
  [/\bsig=.|AccountKey=|SharedAccessSignature=/i, 'a key or a signature'],
  // Keys of storage accounts, DER in base64, secrets of applications.
  [/^\s*([\w+/]{42,}={1,2}|MII[\w+/=\s-]{40,}|[\w.~-]{3}\dQ~[\w.~-]{30,})\s*$/, 'a key or a password'],
];

/** What kind of secret a text seems to be instead of a name or a path, such as `a PEM`; undefined = none. */
export function secretLook(text: string): string | undefined {
  return LOOKS.find(([pattern]) => pattern.test(text))?.[1];
}
