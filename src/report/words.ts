import { afterColon, counted, humanAge, humanSpan, printable } from '../text.ts';
import type { Copies } from './facts.ts';
import type { Interval } from './history.ts';

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Text for an element or a quoted attribute. What cannot be seen, or changes the direction of writing, is shown as its code. */
export function escapeHtml(text: string): string {
  return printable(text).replaceAll(/[&<>"']/g, (character) => ENTITIES[character] ?? '');
}

/** Text of others, whose direction of writing has no effect on what follows. */
export function foreign(text: string): string {
  return `<bdi>${escapeHtml(text)}</bdi>`;
}

/** Such as `2026-11-29`. */
export function utcDay(time: number): string {
  return new Date(time).toISOString().slice(0, 10);
}

/** Such as `2026-11-29 03:00 UTC`. */
export function utcMinute(time: number): string {
  return `${new Date(time).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}

/** Such as `13h after 2026-11-29 03:00 UTC`. */
export function intervalText({ from, to }: Interval): string {
  return `${humanSpan(to - from)} after ${utcMinute(from)}`;
}

/** A moment, and how long ago that was. */
export function momentHtml(time: number, now: number): string {
  const date = new Date(time).toISOString();
  const shown = date.slice(0, 16).replace('T', ' ');
  return `${humanAge(now - time)} ago <time datetime="${date.slice(0, 19)}Z">${shown}</time>`;
}

/** Words that follow "the second place". */
export function copiesText(copies: Copies): string {
  if (copies.missing === undefined) return `cannot be read: ${afterColon(copies.problem).replace(/\.$/, '')}`;
  const { missing, lagSeconds } = copies;
  if (missing === 0) return 'has all snapshots';
  const lag = lagSeconds === 0 ? '' : `, and is ${humanSpan(lagSeconds * 1000)} behind`;
  return `lacks ${counted(missing, 'snapshot')}, or they were not read back there${lag}`;
}
