import {
  alignColumns,
  counted,
  excerpt,
  humanAge,
  humanSeconds,
  humanSize,
  humanSpan,
  paragraph,
  printable,
} from '../text.ts';
import type { Cluster, Facts } from './facts.ts';
import { type Report, stateText, summaryOf } from './summary.ts';

/** Below the table, so many clusters are explained. */
const EXPLAINED = 20;

/** Characters of a note in the table. */
const NOTE = 24;

/** A table with one line per cluster, and below it what is wrong with the worst of them. */
export function reportTable(report: Report): string {
  const { clusters, generatedAt, otherContainers = [] } = report;
  const headings = ['CLUSTER', 'STATE', 'NEWEST', 'EVERY', 'GAPS', 'OBJECTIVE', 'SIZE', 'KEYS', 'DRILLED', 'RECOVERY'];
  const rows = clusters.map((cluster) => row(cluster, generatedAt));
  if (clusters.some(({ facts }) => facts !== undefined && facts.kept.length > 0)) {
    headings.push('KEPT');
    for (const [index, { facts }] of clusters.entries()) rows[index]?.push(keptCell(facts?.kept ?? []));
  }
  const wrong = clusters.filter(({ problems, exceptions }) => problems.length + exceptions.length > 0);
  const lines = wrong.slice(0, EXPLAINED).map(explanation);
  if (wrong.length > EXPLAINED) {
    lines.push(
      `${counted(wrong.length - EXPLAINED, 'more cluster')} with problems or exceptions: see --json or --html.`,
    );
  }
  if (otherContainers.length > 0) {
    lines.push(
      `Not in this report, because there is no snapshot or no permission to list: ${otherContainers.join(', ')}.`,
    );
  }
  return [
    alignColumns(headings, rows, ['NEWEST', 'EVERY', 'GAPS', 'SIZE', 'KEYS', 'DRILLED', 'RECOVERY']),
    '',
    ...lines.map((line) => paragraph(printable(line))),
    `${summaryOf(report)}.`,
  ].join('\n');
}

function row({ place, state, facts }: Cluster, now: number): string[] {
  const { newest, usual, gaps, objective, lastDrill } = facts ?? {};
  return [
    place.name,
    stateText(state),
    newest === undefined ? '-' : humanAge(now - newest.takenAt),
    usual === undefined || newest === undefined ? '-' : humanSpan(usual),
    gaps === undefined ? '-' : String(gaps.length),
    objective === undefined ? '-' : objective.held ? 'held' : 'missed',
    newest === undefined ? '-' : humanSize(newest.size),
    newest === undefined ? '-' : String(newest.keys),
    lastDrill === undefined ? '-' : humanAge(now - lastDrill.at.getTime()),
    lastDrill === undefined ? '-' : humanSeconds(lastDrill.recoveryMs),
  ];
}

/** How many snapshots marks keep, and the first note of the newest ones: `2: before 1.36`. */
function keptCell(kept: Facts['kept']): string {
  if (kept.length === 0) return '-';
  const note = kept.find((snapshot) => snapshot.note !== undefined)?.note;
  return note === undefined ? String(kept.length) : `${kept.length}: ${excerpt(note, NOTE)}`;
}

function explanation({ place, problems, exceptions }: Cluster): string {
  return `${place.name}: ${[...problems.map(({ message }) => message), ...exceptions].join(' ')}`;
}
