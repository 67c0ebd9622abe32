const DAY_MS = 86_400_000;

/** Names the hour, day, ISO week, month or year in UTC that a moment lies in; moments of one period have one name. */
export const PERIODS = {
  hourly: (moment: Date) => moment.toISOString().slice(0, 13),
  daily: (moment: Date) => moment.toISOString().slice(0, 10),
  weekly: isoWeek,
  monthly: (moment: Date) => moment.toISOString().slice(0, 7),
  yearly: (moment: Date) => moment.toISOString().slice(0, 4),
} as const;

/** Such as `2026-W53`: weeks begin on Mondays, and belong to the year that has most of their days. */
function isoWeek(moment: Date): string {
  const daysSinceMonday = (moment.getUTCDay() + 6) % 7;
  const thursday = new Date(moment.getTime() + (3 - daysSinceMonday) * DAY_MS);
  const year = thursday.getUTCFullYear();
  const week = Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / DAY_MS / 7) + 1;
  return `${year}-W${String(week).padStart(2, '0')}`;
}
