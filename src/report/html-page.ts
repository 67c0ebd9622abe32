import { createHash } from 'node:crypto';
import { counted, humanAge, humanSeconds, humanSpan } from '../text.ts';
import { clusterRows, HEADINGS } from './cluster-rows.ts';
import { type Cluster, STATES } from './facts.ts';
import { SCRIPT, STYLE } from './page-assets.ts';
import { STRIP_SYMBOLS } from './strip.ts';
import { count, type Report, stateText } from './summary.ts';
import { escapeHtml, foreign, utcMinute } from './words.ts';

/** Clusters whose exceptions are listed at the top; those of the others are in the table. */
const LISTED = 40;

/**
 * The report as one page that needs nothing else: no request, and no script. Everything that comes from the store is escaped, and
 * the policy allows only this style and this script.
 * @returns its parts, one after the other
 */
export function* htmlPage(report: Report): Generator<string, void, void> {
  const { clusters, generatedAt, objective, drillWithin, version, otherContainers = [] } = report;
  const target = objective === undefined ? 'the usual time between snapshots of each cluster' : humanSpan(objective);
  yield `<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src '${hash(STYLE)}'; script-src '${hash(SCRIPT)}'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>etcd backup report, ${utcMinute(generatedAt)}</title>
<style>${STYLE}</style></head>
<body><a class="skip" href="#clusters">Skip to the clusters</a>
<header><h1>etcd backup report</h1>
<p>${counted(clusters.length, 'cluster')}, <time datetime="${new Date(generatedAt).toISOString()}">${utcMinute(generatedAt)}</time>.
Read from the stored snapshots by etcd-snapshot ${escapeHtml(version)}; no cluster was contacted. All times are UTC.</p>
<p>Expected: a snapshot within ${target}, and a drill within ${humanSpan(drillWithin)}.</p></header>
<main>
<section aria-labelledby="answers"><h2 id="answers">At a glance</h2>
<dl class="answers">${answers(report).join('')}</dl></section>
<section aria-labelledby="exceptions"><h2 id="exceptions">Exceptions</h2>
${exceptionList(clusters)}${others(otherContainers)}</section>
<section aria-labelledby="clusters"><h2 id="clusters">Clusters</h2>
${FORM}${LEGEND}${STRIP_SYMBOLS}
<table><caption class="vh">All clusters, the worst first</caption>
<thead><tr>${HEADINGS.map((heading) => `<th scope="col">${heading}</th>`).join('')}</tr></thead>
`;
  for (const [index, cluster] of clusters.entries()) yield clusterRows(cluster, `c${index + 1}`, generatedAt);
  yield `</table></section>
${WORDS}</main>
<script>${SCRIPT}</script></body></html>
`;
}

function hash(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`;
}

/** What is asked first, each with a short answer and an explanation. */
function answers({ clusters, generatedAt, drillWithin }: Report): string[] {
  const total = clusters.length;
  const proven = clusters.filter(({ facts }) => facts?.lastDrill !== undefined);
  const recent = proven.filter(({ problems }) => !problems.some(({ state }) => state === 'not-drilled'));
  const oldest = proven.toSorted((a, b) => drilledAt(a) - drilledAt(b))[0];
  const slowest = proven.toSorted((a, b) => recovery(b) - recovery(a))[0];
  const held = clusters.filter(({ facts }) => facts?.objective?.held === true).length;
  const ok = count(clusters, 'ok');
  const states = STATES.filter((state) => state !== 'ok' && count(clusters, state) > 0);
  const withExceptions = clusters.filter(({ problems, exceptions }) => problems.length + exceptions.length > 0);
  const sentences = withExceptions.reduce(
    (sum, { problems, exceptions }) => sum + problems.length + exceptions.length,
    0,
  );
  const oldestText =
    oldest === undefined
      ? 'no drill has succeeded yet'
      : `the oldest drill: ${foreign(oldest.place.name)}, ${humanAge(generatedAt - drilledAt(oldest))} ago`;
  return [
    answer(
      'Clusters without a problem',
      `${ok} of ${total}`,
      ok === total,
      states.map((state) => `${count(clusters, state)} ${stateText(state)}`).join(', ') || 'none needs attention',
    ),
    answer(
      `Proven restorable within ${humanSpan(drillWithin)}`,
      `${recent.length} of ${total}`,
      recent.length === total,
      oldestText,
    ),
    answer(
      'Longest recovery in a drill',
      slowest === undefined ? 'unknown' : humanSeconds(recovery(slowest)),
      undefined,
      slowest === undefined ? 'no drill has succeeded yet' : foreign(slowest.place.name),
    ),
    answer(
      'Objective held',
      `${held} of ${total}`,
      held === total,
      held === total
        ? 'no cluster was longer without a snapshot, since its first one or for 30 days'
        : 'the table shows the longest time without a snapshot',
    ),
    answer(
      'Exceptions',
      String(sentences),
      sentences === 0,
      sentences === 0 ? 'none in any cluster' : `in ${counted(withExceptions.length, 'cluster')}`,
    ),
  ];
}

function answer(question: string, value: string, isGood: boolean | undefined, more: string): string {
  const look = isGood === undefined ? '' : isGood ? ' class="good"' : ' class="bad"';
  return `<div><dt>${question}</dt><dd${look}>${value}</dd><dd class="note">${more}</dd></div>`;
}

function drilledAt({ facts }: Cluster): number {
  return facts?.lastDrill?.at.getTime() ?? 0;
}

function recovery({ facts }: Cluster): number {
  return facts?.lastDrill?.recoveryMs ?? 0;
}

function exceptionList(clusters: readonly Cluster[]): string {
  const rows = [...clusters.entries()].filter(
    ([, { problems, exceptions }]) => problems.length + exceptions.length > 0,
  );
  if (rows.length === 0) return '<p>There is none.</p>';
  const items = rows.slice(0, LISTED).map(([index, { place, state, problems, exceptions }]) => {
    const lines = [
      ...problems.map(({ message }) => `<dd class="problem">${escapeHtml(message)}</dd>`),
      ...exceptions.map((sentence) => `<dd>${escapeHtml(sentence)}</dd>`),
    ];
    return `<div class="${state}"><dt><a href="#c${index + 1}">${foreign(place.name)}</a></dt>${lines.join('')}</div>`;
  });
  const rest = rows.length > LISTED ? `<p>${counted(rows.length - LISTED, 'more cluster')}: see the table.</p>` : '';
  return `<dl class="exceptions">${items.join('')}</dl>${rest}`;
}

function others(containers: readonly string[]): string {
  if (containers.length === 0) return '';
  const names = containers.map(foreign).join(', ');
  return `<p class="note">Not in this report, because there is no snapshot or no permission to list: ${names}.</p>`;
}

/** Shown by the script. */
const FORM = `<form hidden><label>Filter by words<input type="search" name="words" autocomplete="off"></label>
<label>State<select name="state"><option value="">all</option>${STATES.map((state) => `<option value="${state}">${stateText(state)}</option>`).join('')}</select></label>
<output aria-live="polite"></output></form>
`;

const LEGEND = `<ul class="legend">
<li><svg viewBox="0 0 28 14" aria-hidden="true"><path class="s" d="M4 0v14M11 0v14M18 0v14M25 0v14"/></svg>snapshot</li>
<li><svg viewBox="0 0 28 14" aria-hidden="true"><rect class="g" width="28" height="14"/></svg>gap: more than twice the usual time without a snapshot</li>
<li><svg viewBox="0 0 28 14" aria-hidden="true"><path class="d" d="M14 7h0"/></svg>drill</li>
<li><svg viewBox="0 0 28 14" aria-hidden="true"><path class="z" d="M0 11L14 7L28 3"/></svg>size</li>
<li><svg viewBox="0 0 28 14" aria-hidden="true"><path class="k" d="M0 11L14 7L28 3"/></svg>keys</li>
</ul>
`;

const WORDS = `<section aria-labelledby="words"><h2 id="words">What the words mean</h2>
<dl class="words">
<dt>Proven restorable</dt><dd>A drill restored a snapshot with etcd's own tool, started an etcd with it and compared its data. The recovery time is that of download, verification, restore and start on the host of the drill. Anybody who can write to the container can record a drill.</dd>
<dt>Verified in full</dt><dd>Every page of the database was checked while it was uploaded, or in a drill. What was never verified has no record, and does not count.</dd>
<dt>Late</dt><dd>The newest valid snapshot is older than twice the objective, or there is none.</dd>
<dt>Invalid</dt><dd>There is a newer snapshot than the newest valid one, which cannot be used.</dd>
<dt>Objective</dt><dd>The recovery point objective: the longest time without a snapshot that is accepted. It counts as missed when a time within 30 days was more than a tenth longer; the table shows the longest. Times in which retention can have removed snapshots do not count.</dd>
<dt>Every</dt><dd>The median of the last 20 times between snapshots; a day with fewer than three snapshots.</dd>
<dt>Immutable</dt><dd>A policy or a legal hold of the container prevents that snapshots are changed or deleted.</dd>
</dl></section>
`;
