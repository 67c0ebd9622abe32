const DATE = /^\d{4}-\d{2}-\d{2}$/;
const RFC3339 = /^(\d{4}-\d{2}-\d{2})[Tt ]((?:[01]\d|2[0-3]):\d{2}:\d{2}(?:\.\d{1,9})?)([Zz]|[+-]\d{2}:\d{2})$/;

/** The forms that `parseTime` accepts. */
export const TIME_HINT =
  'Give a time such as 2026-01-02T03:04:05Z, with Z or an offset, or a date in UTC such as 2026-01-02.';

/** A time in RFC 3339, or a date, which is its beginning in UTC; undefined for anything else. */
export function parseTime(text: string): Date | undefined {
  const [, date = text, time = '00:00:00', zone = 'Z'] = RFC3339.exec(text) ?? [];
  const day = new Date(DATE.test(date) ? `${date}T00:00:00Z` : NaN);
  const parsed = new Date(`${date}T${time}${zone.toUpperCase()}`);
  // The Date class takes February 30 for March 2.
  const isValid = !Number.isNaN(parsed.getTime()) && !Number.isNaN(day.getTime()) && day.toISOString().startsWith(date);
  return isValid ? parsed : undefined;
}
