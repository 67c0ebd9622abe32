import { maskedJson } from './secret.ts';
import { printable } from './text.ts';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const LOG_FORMATS = ['json', 'text'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

type LogFields = Readonly<Record<string, unknown>>;

/** What happens during a run; results go to stdout instead. Facts are fields, not parts of the message. */
export type Log = Readonly<Record<LogLevel, (message: string, fields?: LogFields) => void>>;

type Mask = (text: string) => string;

/**
 * A log of one line an entry, handed to `write` with its line feed.
 * @param mask hides secrets in each text, before it becomes a part of the line
 */
export function createLog(
  format: LogFormat,
  level: LogLevel,
  write: (line: string) => void,
  mask: Mask = (text) => text,
): Log {
  const render = format === 'json' ? renderJson : renderText;
  const entry = (at: LogLevel) => (message: string, fields?: LogFields) => {
    if (LOG_LEVELS.indexOf(at) >= LOG_LEVELS.indexOf(level)) write(`${render(at, message, fields ?? {}, mask)}\n`);
  };
  return { debug: entry('debug'), info: entry('info'), warn: entry('warn'), error: entry('error') };
}

function renderJson(level: LogLevel, message: string, fields: LogFields, mask: Mask): string {
  // The level is not masked: it can contain no secret.
  const masked: unknown = JSON.parse(maskedJson({ message, ...fields }, mask));
  return JSON.stringify({ time: new Date().toISOString(), level, ...(masked as object) });
}

/** Time in UTC, level, message and fields in one line; below it the parts of the message, if it has several, and the hint. */
function renderText(level: LogLevel, message: string, fields: LogFields, mask: Mask): string {
  const { hint, problems, ...others } = fields;
  const parts = Array.isArray(problems) ? problems.map(String) : [];
  // Without the parts, which follow one per line.
  const head = parts.length === 0 ? message : message.slice(0, message.indexOf(': '));
  const details = Object.entries(others).map(([name, value]) => ` ${name}=${renderValue(value, mask)}`);
  return [
    `${new Date().toISOString().slice(11, 19)} ${level}: ${printable(mask(head))}${details.join('')}`,
    ...parts.map((part) => `  ${printable(mask(part))}`),
    ...(typeof hint === 'string' ? [`hint: ${printable(mask(hint))}`] : []),
  ].join('\n');
}

function renderValue(value: unknown, mask: Mask): string {
  if (typeof value !== 'string') return printable(maskedJson(value, mask) ?? 'undefined');
  const text = printable(mask(value));
  return /^[^\s"=]+$/.test(text) ? text : `"${text.replaceAll('"', '\\"')}"`;
}

/** What an operator should know although the run goes on: logged immediately, and part of the result. */
export class Warnings {
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
