import { encodingText } from '../snapshot/stored-form.ts';
import { keptText } from '../snapshot/marks.ts';
import { signatureText } from '../snapshot/signature-state.ts';
import { counted, firstOf, humanSeconds, humanSize, humanSpan } from '../text.ts';
import { type Cluster, type Facts, STRIP_DAYS } from './facts.ts';
import { DAY_MS } from './history.ts';
import { rangeText, stripSvg } from './strip.ts';
import { stateText } from './summary.ts';
import { copiesText, escapeHtml, foreign, intervalText, momentHtml, utcDay } from './words.ts';

/** Gaps that are listed for one cluster. */
const GAPS = 10;

/** Kept snapshots that are listed for one cluster. */
const KEPT = 10;

/** One cell of the table. */
interface Cell {
  readonly html: string;
  /** By which the column is sorted; undefined = unknown. */
  readonly order: number | string | undefined;
}

/** Headings, and the cell of a cluster in each of the columns. */
const COLUMNS: Readonly<Record<string, (facts: Facts, now: number) => Cell>> = {
  Newest: ({ newest }, now) => moment(newest?.takenAt, now, 'none'),
  Every: ({ newest, usual }) => (newest === undefined ? UNKNOWN : { html: humanSpan(usual), order: usual }),
  Objective: ({ objective }) => {
    if (objective === undefined) return UNKNOWN;
    const longest = objective.longest.to - objective.longest.from;
    const html = objective.held ? 'held' : `<strong>missed</strong> <span class="by">${humanSpan(longest)}</span>`;
    return { html, order: longest };
  },
  'Last drill': ({ lastDrill }, now) => moment(lastDrill?.at.getTime(), now, '<strong>never</strong>'),
  Recovery: ({ lastDrill }) =>
    lastDrill === undefined ? UNKNOWN : { html: humanSeconds(lastDrill.recoveryMs), order: lastDrill.recoveryMs },
  Size: ({ newest, trend }) => grown(newest?.size, trend?.size, humanSize),
  Keys: ({ newest, trend }) => grown(newest?.keys, trend?.keys, String),
  Protection: (facts) => {
    const words = protectionOf(facts);
    return { html: words.length === 0 ? 'none' : words.join(', '), order: words.length };
  },
};

export const HEADINGS = ['Cluster', 'State', ...Object.keys(COLUMNS)];

const UNKNOWN: Cell = { html: '–', order: undefined };

/** The rows of one cluster. @param id of the element */
export function clusterRows(cluster: Cluster, id: string, now: number): string {
  const { place, state, facts } = cluster;
  const cells = Object.entries(COLUMNS).map(([heading, cellOf]) => {
    const { html, order } = facts === undefined ? UNKNOWN : cellOf(facts, now);
    return `<td data-l="${heading}"${order === undefined ? '' : ` data-v="${order}"`}>${html}</td>`;
  });
  return [
    `<tbody id="${id}" class="${state}"><tr><th scope="row">${foreign(place.name)}</th>`,
    `<td data-l="State"><span class="state">${stateText(state)}</span></td>${cells.join('')}</tr>`,
    `<tr><td colspan="${HEADINGS.length}" class="more">${facts === undefined ? '' : stripHtml(facts, now)}`,
    sentences(cluster),
    `<details><summary>Details <span class="vh">of ${foreign(place.name)}</span></summary><dl>`,
    details(cluster, now)
      .map(([term, html]) => `<div><dt>${term}</dt><dd>${html}</dd></div>`)
      .join(''),
    '</dl></details></td></tr></tbody>\n',
  ].join('');
}

function stripHtml(facts: Facts, now: number): string {
  const { strip } = facts;
  const ranges =
    strip.at.length === 0 ? '' : `size ${rangeText(strip.size, humanSize)}; keys ${rangeText(strip.keys, String)}`;
  const start = utcDay(now - STRIP_DAYS * DAY_MS);
  return `${stripSvg(facts, now)}<p class="axis" aria-hidden="true"><span>${start}</span><span>${ranges}</span><span>${utcDay(now)}</span></p>`;
}

function sentences({ problems, exceptions }: Cluster): string {
  const items = [
    ...problems.map(({ message }) => `<li class="problem">${escapeHtml(message)}</li>`),
    ...exceptions.map((sentence) => `<li>${escapeHtml(sentence)}</li>`),
  ];
  return items.length === 0 ? '' : `<ul>${items.join('')}</ul>`;
}

function moment(time: number | undefined, now: number, none: string): Cell {
  if (time === undefined) return { html: none, order: undefined };
  return { html: momentHtml(time, now), order: time };
}

/** With the change since the beginning of the trend. */
function grown(value: number | undefined, before: number | undefined, show: (value: number) => string): Cell {
  if (value === undefined) return UNKNOWN;
  const percent = before === undefined || before === 0 ? 0 : Math.round((value / before - 1) * 100);
  const change = percent === 0 ? '' : ` <span class="by">${percent > 0 ? '+' : '−'}${Math.abs(percent)} %</span>`;
  return { html: `${show(value)}${change}`, order: value };
}

function protectionOf({ newest, immutability }: Facts): string[] {
  if (newest === undefined) return [];
  const { encoding = '', signature, hasBundle } = newest;
  return [
    ...(encoding.endsWith('age') ? ['encrypted'] : []),
    ...(signature.state === 'valid' ? ['signed'] : []),
    ...(immutability?.policy === true || immutability?.legalHold === true ? ['immutable'] : []),
    ...(hasBundle ? ['keys stored'] : []),
  ];
}

/** What an auditor can look up, as pairs of a term and HTML. */
function details({ place, facts }: Cluster, now: number): [term: string, html: string][] {
  const where: [string, string] = ['Place', foreign(`${place.account}/${place.container}/${place.prefix ?? ''}`)];
  if (facts === undefined) return [where];
  const { newest, gaps, objective, lastVerification, lastDrill } = facts;
  return [
    where,
    ['Cluster id', facts.clusterId ?? '–'],
    ...(newest === undefined ? [] : newestDetails(newest)),
    [
      'Last verified in full',
      lastVerification === undefined
        ? 'never'
        : `${momentHtml(lastVerification.at, now)}, ${foreign(lastVerification.snapshot)}, by a ${lastVerification.by}`,
    ],
    [
      'Last proven restorable',
      lastDrill === undefined
        ? 'never'
        : `${momentHtml(lastDrill.at.getTime(), now)}, ${foreign(lastDrill.snapshot)}, in ${humanSeconds(lastDrill.recoveryMs)}`,
    ],
    ...(objective === undefined ? [] : [objectiveDetails(objective)]),
    [`Gaps in ${STRIP_DAYS} days`, gapList(gaps)],
    ['Stored', `${counted(facts.snapshots, 'snapshot')}, ${humanSize(facts.storedBytes)} in all`],
    ...(facts.kept.length === 0 ? [] : [keptDetails(facts.kept)]),
    ...(facts.copies === undefined ? [] : [['Second place', escapeHtml(copiesText(facts.copies))] as [string, string]]),
    ['Immutability', immutabilityText(facts)],
  ];
}

function newestDetails(newest: NonNullable<Facts['newest']>): [string, string][] {
  const { name, revision, etcdVersion, encoding, recipients, signature } = newest;
  const sealed = encoding === undefined ? 'no' : encodingText(encoding);
  const whom = recipients.length === 0 ? '' : ` for ${recipients.join(', ')}`;
  return [
    [
      'Newest snapshot',
      `${foreign(name)}, revision ${revision}, etcd ${escapeHtml(etcdVersion ?? 'of an unknown version')}`,
    ],
    ['Sealed', `${sealed}${escapeHtml(whom)}`],
    ['Signature', escapeHtml(signatureText(signature))],
  ];
}

function objectiveDetails({ objective, held, longest, since }: NonNullable<Facts['objective']>): [string, string] {
  const verdict = held ? 'held' : 'missed';
  return [
    'Recovery point objective',
    `${humanSpan(objective)}, ${verdict} since ${utcDay(since)}; the longest time without a snapshot was ${intervalText(longest)}`,
  ];
}

function keptDetails(kept: Facts['kept']): [string, string] {
  const items = kept.map((snapshot) => `${foreign(snapshot.name)} (${foreign(keptText(snapshot))})`);
  return ['Kept', firstOf(items, KEPT).join('; ')];
}

function gapList(gaps: Facts['gaps']): string {
  return firstOf(gaps.map(intervalText), GAPS).join('; ') || 'none';
}

function immutabilityText({ immutability }: Facts): string {
  if (immutability === null) return 'unknown: the identity cannot see it';
  const kinds = [
    ...(immutability.policy ? ['a policy of the container'] : []),
    ...(immutability.legalHold ? ['a legal hold'] : []),
  ];
  return kinds.length === 0 ? 'none on the container' : kinds.join(' and ');
}
