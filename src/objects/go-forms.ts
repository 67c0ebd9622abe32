import { UnreadableValue } from './object-values.ts';

/* Types of Kubernetes' Go modules with a JSON form of their own. */

const NS_PER_SECOND = 1_000_000_000n;

/** `2026-01-02T03:04:05Z`. @param digits of the fraction of the second */
export function timeText(seconds: number | bigint, nanoseconds: number, digits: 0 | 6): string {
  const date = new Date(Number(seconds) * 1000);
  const year = Number.isNaN(date.getTime()) ? -1 : date.getUTCFullYear();
  if (year < 0 || year > 9999) throw new UnreadableValue('has a time that is out of range');
  const text = date.toISOString().slice(0, 19);
  return digits === 0 ? `${text}Z` : `${text}.${String(Math.floor(nanoseconds / 1000)).padStart(digits, '0')}Z`;
}

/** As Go prints a duration: `1h30m0s`, `1.5s`, `100ms`. */
export function durationText(nanoseconds: bigint): string {
  if (nanoseconds === 0n) return '0s';
  const sign = nanoseconds < 0n ? '-' : '';
  const rest = nanoseconds < 0n ? -nanoseconds : nanoseconds;
  if (rest < 1000n) return `${sign}${rest}ns`;
  if (rest < 1_000_000n) return `${sign}${decimal(rest, 3)}µs`;
  if (rest < NS_PER_SECOND) return `${sign}${decimal(rest, 6)}ms`;
  const minutes = rest / NS_PER_SECOND / 60n;
  const seconds = `${decimal(rest - minutes * 60n * NS_PER_SECOND, 9)}s`;
  if (minutes === 0n) return sign + seconds;
  return minutes < 60n ? `${sign}${minutes}m${seconds}` : `${sign}${minutes / 60n}h${minutes % 60n}m${seconds}`;
}

/** A number with this many decimals, without zeros at the end. */
function decimal(value: bigint, decimals: number): string {
  const digits = String(value).padStart(decimals + 1, '0');
  const fraction = digits.slice(-decimals).replace(/0+$/, '');
  return digits.slice(0, -decimals) + (fraction === '' ? '' : `.${fraction}`);
}
