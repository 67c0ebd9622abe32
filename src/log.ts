export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const LOG_FORMATS = ['json', 'text'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export type LogFields = Readonly<Record<string, unknown>>;

/** What happens on the way; results go to stdout instead. A message is a sentence, its fields are for machines. */
export type Log = Readonly<Record<LogLevel, (message: string, fields?: LogFields) => void>>;

/** A log of one line an entry, handed to `write` with its line feed. */
export function createLog(format: LogFormat, level: LogLevel, write: (line: string) => void): Log {
  const render = format === 'json' ? renderJson : renderText;
  const entry = (at: LogLevel) => (message: string, fields?: LogFields) => {
    if (LOG_LEVELS.indexOf(at) >= LOG_LEVELS.indexOf(level)) write(`${render(at, message, fields ?? {})}\n`);
  };
  return { debug: entry('debug'), info: entry('info'), warn: entry('warn'), error: entry('error') };
}

function renderJson(level: LogLevel, message: string, fields: LogFields): string {
  return JSON.stringify({ time: new Date().toISOString(), level, message, ...fields });
}

function renderText(level: LogLevel, message: string, fields: LogFields): string {
  const { hint, ...others } = fields;
  const details = Object.entries(others).map(([name, value]) => ` ${name}=${renderValue(value)}`);
  const line = `${level}: ${message}${details.join('')}`;
  return typeof hint === 'string' ? `${line}\nhint: ${hint}` : line;
}

function renderValue(value: unknown): string {
  return typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}
