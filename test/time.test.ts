import t from 'tap';
import { parseTime } from '../src/time.ts';

t.test('times in RFC 3339, and dates in UTC', (t) => {
  for (const [text, iso] of [
    ['2026-01-02', '2026-01-02T00:00:00.000Z'],
    ['2026-01-02T03:04:05Z', '2026-01-02T03:04:05.000Z'],
    ['2026-01-02t03:04:05.25z', '2026-01-02T03:04:05.250Z'],
    ['2026-01-02 03:04:05+02:00', '2026-01-02T01:04:05.000Z'],
    ['2024-02-29T23:59:59-01:00', '2024-03-01T00:59:59.000Z'],
  ] as const) {
    t.equal(parseTime(text)?.toISOString(), iso, text);
  }
  t.end();
});

t.test('what is no time', (t) => {
  for (const text of [
    ...['', 'yesterday', '14d', '1767322800', '2026', '2026-1-2', '2026-02-30', '2026-13-01', '2025-02-29'],
    // Without a zone it could be any of 38 hours.
    ...['2026-01-02T03:04:05', '2026-01-02T03:04Z', '2026-01-02T24:00:00Z', '2026-01-02T03:60:00Z'],
    ...['2026-02-30T03:04:05Z', '2026-01-02T03:04:05+99:00', '2026-01-02T03:04:05Z\n', ' 2026-01-02', '+002026-01-02'],
  ]) {
    t.equal(parseTime(text), undefined, text);
  }
  t.end();
});
