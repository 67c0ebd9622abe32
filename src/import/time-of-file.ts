import { basename } from 'node:path';
import { parseTime } from '../time.ts';

const ENDINGS = /(\.(db|snap|snapshot|zip|gz|zst|age|bak|backup))+$/i;

/** At the end, as k3s and RKE2 name snapshots: seconds from 2001 to 2033 have these ten digits. */
const UNIX_TIME = /(?<!\d)1\d{9}$/;

/** `2026-01-02T03:04:05Z`, `20260102_030405`, `2026-01-02_03:04:05_UTC`, `202601020304` and the like, with a time of day. */
const CALENDAR_TIME =
  /(?<!\d)(20\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[-_. T]?(\d\d)[-_.:]?(\d\d)(?:[-_.:]?(\d\d))?(?!\d)([+-](?:0\d|1[0-4]):?(?:00|15|30|45)$)?/;

/** The time in the name of a snapshot file; without an offset it is in UTC. Undefined where there is none. */
export function timeInName(path: string): Date | undefined {
  const stem = basename(path).replace(ENDINGS, '');
  const [seconds] = UNIX_TIME.exec(stem) ?? [];
  if (seconds !== undefined) return new Date(Number(seconds) * 1000);
  const [found, year, month, day, hour, minute, second = '00', offset = 'Z'] = CALENDAR_TIME.exec(stem) ?? [];
  if (found === undefined) return undefined;
  return parseTime(`${year}-${month}-${day}T${hour}:${minute}:${second}${offset.replace(/(\d\d)(\d\d)$/, '$1:$2')}`);
}

/** What a time can be taken for that is none. */
const NO_TIMES: readonly (readonly [RegExp, string])[] = [
  [CALENDAR_TIME, 'has an invalid time in its name'],
  [/(?<!\d)[2-9]\d{9}$/, 'has a time in the future in its name'],
  [/(?<!\d)1\d{12}$/, 'has a time in its name that is not in seconds'],
];

/** Why `timeInName` finds none, in words that follow the name of the file. */
export function whyNoTime(path: string): string {
  const stem = basename(path).replace(ENDINGS, '');
  return NO_TIMES.find(([pattern]) => pattern.test(stem))?.[1] ?? 'has no time in its name';
}
