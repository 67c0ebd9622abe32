import { counted, humanSize } from '../text.ts';
import { type Facts, STRIP_DAYS } from './facts.ts';
import { DAY_MS } from './history.ts';
import { escapeHtml, intervalText, utcDay } from './words.ts';

/* A strip of days as SVG: every snapshot, gap and drill as a mark, sizes and keys as lines. It is stretched to the width of the page. */

/** Units of the drawing. */
const WIDTH = 900;
const HEIGHT = 56;
const LINES = { top: 3, bottom: 24 };
const DRILLS = 31;
const BAND = { top: 38, height: 16 };

/** Points of a line: more than one a day cannot be seen. */
const POINTS = STRIP_DAYS;

/** Lines of the weeks, once for all strips. */
export const STRIP_SYMBOLS =
  '<svg width="0" height="0" aria-hidden="true"><symbol id="w" viewBox="0 0 900 56" preserveAspectRatio="none"><path class="w" d="' +
  Array.from({ length: 12 }, (_, week) => `M${WIDTH - (week + 1) * 70} 0v${HEIGHT}`).join('') +
  '"/></symbol></svg>';

/** @param now the right end, in milliseconds */
export function stripSvg({ strip, gaps, drills }: Facts, now: number): string {
  const start = now - STRIP_DAYS * DAY_MS;
  const x = (time: number): number =>
    Math.max(0, Math.min(WIDTH, Math.round(((time - start) / (now - start)) * WIDTH)));
  const shownDrills = drills.filter((time) => time > start);
  const gapMarks = gaps.map((gap) => {
    const [from, to] = [x(gap.from), x(gap.to)];
    const shape = `<rect class="g" x="${from}" y="${BAND.top}" width="${Math.max(2, to - from)}" height="${BAND.height}">`;
    return `${shape}<title>gap: ${intervalText(gap)}</title></rect>`;
  });
  const label = [
    `${STRIP_DAYS} days until ${utcDay(now)}: ${counted(strip.at.length, 'snapshot')}, ${counted(gaps.length, 'gap')},`,
    `${counted(shownDrills.length, 'drill')}.`,
    ...(strip.at.length === 0
      ? []
      : [`Size ${rangeText(strip.size, humanSize)}, keys ${rangeText(strip.keys, String)}.`]),
  ].join(' ');
  return [
    `<svg class="strip" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label="${escapeHtml(label)}">`,
    `<use href="#w"/><rect class="b" y="${BAND.top}" width="${WIDTH}" height="${BAND.height}"/>`,
    ...gapMarks,
    `<path class="s" d="${marks(Array.from(strip.at, x))}"/>`,
    `<path class="z" d="${line(Array.from(strip.at, x), strip.size)}"/>`,
    `<path class="k" d="${line(Array.from(strip.at, x), strip.keys)}"/>`,
    `<path class="d" d="${Array.from(shownDrills, (time) => `M${x(time)} ${DRILLS}h0`).join('')}"/>`,
    '</svg>',
  ].join('');
}

/** Such as `3.0 MB` or `3.0 MB to 3.4 MB`. */
export function rangeText(values: Float64Array, show: (value: number) => string): string {
  const [least, most] = extent(values).map(show);
  return least === most ? `${least}` : `${least} to ${most}`;
}

function extent(values: Float64Array): [least: number, most: number] {
  return [Math.min(...values), Math.max(...values)];
}

/** A tick for each snapshot; those that touch each other are one shape. @param at ascending */
function marks(at: readonly number[]): string {
  const { top, height } = BAND;
  let path = '';
  for (let i = 0; i < at.length; i++) {
    const from = at[i] ?? 0;
    while (i + 1 < at.length && (at[i + 1] ?? 0) - (at[i] ?? 0) <= 1) i++;
    const width = (at[i] ?? from) - from;
    path += `M${from} ${top}${width === 0 ? `v${height}` : `h${width}v${height}h-${width}z`}`;
  }
  return path;
}

/** The lowest value is at the bottom and the highest at the top; a line without a difference is in the middle. */
function line(at: readonly number[], values: Float64Array): string {
  const [least, most] = extent(values);
  const step = Math.max(1, Math.ceil(at.length / POINTS));
  const points = at.flatMap((x, index) => {
    const isShown = index % step === 0 || index === at.length - 1;
    const share = most === least ? 0.5 : ((values[index] ?? least) - least) / (most - least);
    return isShown ? `${x} ${Math.round(LINES.bottom - share * (LINES.bottom - LINES.top))}` : [];
  });
  return points.length === 0 ? '' : `M${points.join('L')}`;
}
