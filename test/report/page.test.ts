import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Cluster } from '../../src/report/facts.ts';
import { worstFirst } from '../../src/report/facts.ts';
import { htmlPage } from '../../src/report/html-page.ts';
import { Browser } from '../support/browser.ts';
import { blob, DAY, drill, HOUR, NOW, reported, series, unread } from '../support/fleet.ts';
import { without } from '../support/judges.ts';
import { temporaryFolder } from '../support/process.ts';

const dir = temporaryFolder('page');
const skip = without('chromium');
const browser = skip === false ? await Browser.start() : undefined;
t.teardown(async () => browser?.stop());

/** Titles of clusters that want to be more than text. */
const HOSTILE = [
  '"><script>alert(1)</script>',
  "' onload=alert(1) x='",
  '\u202egnp.exe',
  '&lt;b&gt;',
  '</style><img src=x>',
];

const WIDTHS = [390, 1024, 1920];

function pageOf(clusters: readonly Cluster[]): string {
  const report = {
    clusters: worstFirst(clusters),
    generatedAt: NOW.getTime(),
    drillWithin: 14 * DAY,
    version: '0.1.0',
  };
  return [...htmlPage({ ...report, objective: undefined, otherContainers: ['logs', HOSTILE[0] ?? ''] })].join('');
}

function fileOf(clusters: readonly Cluster[], name: string): string {
  const file = join(dir, `${name}.html`);
  writeFileSync(file, pageOf(clusters));
  return file;
}

const weekly = Array.from({ length: 12 }, (_, week) => drill(DAY + 7 * week * DAY, 9_000 + week));
const CLUSTERS = [
  reported('prod-eu', series(340, 6 * HOUR), weekly),
  reported(
    'prod-us',
    [...series(40, 6 * HOUR), ...series(40, 6 * HOUR).map((_, i) => blob((300 + i * 6) * HOUR))],
    weekly,
  ),
  reported('staging', series(20, 6 * HOUR).slice(9), [drill(40 * DAY, 43_000)]),
  reported('empty', [], []),
  unread('gone'),
  ...HOSTILE.map((name) => reported(name, series(5, HOUR))),
];
const PAGE = fileOf(CLUSTERS, 'report');

/** A test in the browser. */
function inBrowser(title: string, run: (t: Test, page: Browser) => Promise<void>): void {
  void t.test(title, { skip }, async (t) => {
    if (browser !== undefined) await run(t, browser);
  });
}

t.test('what comes from the store is text', (t) => {
  const page = pageOf(CLUSTERS);
  t.equal(page.match(/<script>/g)?.length, 1, 'only our script');
  t.notMatch(page, /<img|onload=alert\(1\) x='|\u202e/);
  const message = 'Container <b>c</b> & more "quoted"';
  const place = unread('x').place;
  const cluster: Cluster = {
    ...unread('x'),
    place,
    problems: [{ state: 'unreachable', message }],
    exceptions: [message],
  };
  t.match(pageOf([cluster]), 'Container &lt;b&gt;c&lt;/b&gt; &amp; more &quot;quoted&quot;');
  t.end();
});

inBrowser('content for an auditor, at the top and for each cluster', async (t, page) => {
  await page.open(PAGE, { width: 1280 });
  const text = await page.evaluate<string>('document.body.innerText');
  t.match(text, /Clusters without a problem\s+7 of 10\s+1 unreachable, 2 late/);
  t.match(text, /Proven restorable within 14d\s+7 of 10\s+the oldest drill: staging, 40d ago/);
  t.match(text, /Longest recovery in a drill\s+43\.0 s\s+staging/);
  t.match(text, /Objective held\s/);
  t.match(text, 'No drill has succeeded yet.');
  t.match(text, 'The last drill succeeded 40d ago, not within 14d.');
  t.match(text, /The objective of 6h between snapshots was missed within 30 days: none for 2d 12h after/);
  const rows = await page.evaluate<string[]>(
    `[...document.querySelectorAll('tbody th')].map((cell) => cell.innerText)`,
  );
  t.strictSame(rows.slice(0, 3), ['gone', 'empty', 'staging'], 'the worst first');
  for (const name of HOSTILE) t.ok(rows.includes(name.replace('\u202e', '\\u{202e}')), name);
  const strip = `[...document.querySelectorAll('tbody')].find((rows) => rows.innerText.startsWith('prod-us')).querySelector('.strip').getAttribute('aria-label')`;
  t.match(
    await page.evaluate<string>(strip),
    /^90 days until 2026-11-24: 80 snapshots, 1 gap, 12 drills\. Size 4\.1 kB, keys 800\.$/,
  );
});

inBrowser('no request but for the page, and nothing that its own policy refuses', async (t, page) => {
  await page.open(PAGE, { width: 1280 });
  t.match(page.requests, { length: 1 });
  t.strictSame(page.complaints, []);
  t.equal(await page.evaluate(`document.querySelectorAll('img, iframe, object, link, [onload], [style]').length`), 0);
  await page.evaluate(
    `(() => { const image = new Image(); image.src = 'http://127.0.0.1:9/x.png'; document.body.append(image); })()`,
  );
  await page.evaluate(
    `(() => { const script = document.createElement('script'); script.textContent = 'window.hacked = 1'; document.body.append(script); })()`,
  );
  t.equal(await page.evaluate('window.hacked === undefined'), true, 'another script does not run');
  t.ok(page.complaints.some((text) => text.includes('Content Security Policy')));
});

inBrowser('filter and sort by keyboard', async (t, page) => {
  await page.open(PAGE, { width: 1280 });
  const shown = async (): Promise<string[]> =>
    page.evaluate(`[...document.querySelectorAll('tbody:not([hidden]) th')].map((cell) => cell.innerText)`);
  const focus = async (): Promise<string> =>
    page.evaluate('document.activeElement.name || document.activeElement.innerText');
  await page.press('Tab');
  t.match(await focus(), 'Skip to the clusters');
  await page.press('Enter');
  for (let i = 0; (await focus()) !== 'words' && i < 60; i++) await page.press('Tab');
  await page.press('p', 'r', 'o', 'd');
  t.strictSame((await shown()).toSorted(), ['prod-eu', 'prod-us']);
  t.match(await page.evaluate<string>(`document.querySelector('output').value`), '2 of 10 clusters');
  for (let i = 0; (await focus()) !== 'Recovery' && i < 20; i++) await page.press('Tab');
  await page.press('Enter');
  const sorted = `[...document.querySelectorAll('th[aria-sort]')].map((head) => head.innerText + ' ' + head.ariaSort)`;
  t.strictSame(await page.evaluate(sorted), ['Recovery ascending']);
  await page.evaluate(
    `(() => { const form = document.forms[0]; form.reset(); form.dispatchEvent(new Event('input')); })()`,
  );
  t.equal((await shown()).at(-1), 'staging', 'the longest recovery is the last');
  await page.press('Enter');
  t.equal((await shown())[0], 'staging', 'and then the first');
  await page.evaluate(
    `(() => { const form = document.forms[0]; form.elements.state.value = 'late'; form.dispatchEvent(new Event('input')); })()`,
  );
  t.strictSame((await shown()).toSorted(), ['empty', 'staging']);
});

inBrowser('everything is there without a script', async (t, page) => {
  await page.open(PAGE, { width: 1280, script: false });
  const text = await page.evaluate<string>('document.body.innerText');
  for (const name of ['prod-eu', 'staging', 'gone']) t.match(text, name);
  t.equal(await page.evaluate(`document.querySelectorAll('thead button').length`), 0);
  t.equal(await page.evaluate(`getComputedStyle(document.forms[0]).display`), 'none');
});

inBrowser('a page for a screen reader', async (t, page) => {
  await page.open(PAGE, { width: 1280 });
  t.match(await page.evaluate('document.documentElement.lang + document.title'), /^enetcd backup report, 2026-11-24/);
  const levels = await page.evaluate<number[]>(
    `[...document.querySelectorAll('h1,h2,h3,h4')].map((head) => Number(head.tagName[1]))`,
  );
  t.equal(levels[0], 1);
  t.ok(
    levels.slice(1).every((level, index) => level > 1 && level - (levels[index] ?? 1) <= 1),
    'no level is left out',
  );
  t.equal(
    await page.evaluate(
      `new Set([...document.querySelectorAll('[id]')].map(({ id }) => id)).size === document.querySelectorAll('[id]').length`,
    ),
    true,
  );
  t.equal(
    await page.evaluate(
      `[...document.querySelectorAll('a[href^="#"]')].every((link) => document.querySelector(link.getAttribute('href')) !== null)`,
    ),
    true,
  );
  const { nodes } = (await page.send('Accessibility.getFullAXTree')) as {
    nodes: { ignored: boolean; role?: { value: string }; name?: { value: string } }[];
  };
  const named = new Set([
    'textbox',
    'searchbox',
    'combobox',
    'button',
    'link',
    'image',
    'img',
    'columnheader',
    'rowheader',
    'region',
    'DisclosureTriangle',
  ]);
  const seen = nodes.filter(({ ignored, role }) => !ignored && named.has(role?.value ?? ''));
  t.ok(seen.length > 40);
  for (const { role, name } of seen) if ((name?.value ?? '') === '') t.fail(`${role?.value} without a name`);
});

/** Texts whose contrast with what is behind them is below 4.5 to 1, and marks below 3 to 1. */
const CONTRAST = `(() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = parse(colour).map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (parse(colour)[3] !== 0) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const ratio = (one, other) => {
    const [a, b] = [light(one), light(other)].toSorted((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const low = [];
  for (const element of document.querySelectorAll('body *')) {
    const style = getComputedStyle(element);
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== '');
    if (hasText && !element.closest('script,svg') && ratio(style.color, behind(element)) < 4.5) low.push(element.outerHTML.slice(0, 80));
  }
  for (const [selector, property] of [['.s', 'stroke'], ['.z', 'stroke'], ['.k', 'stroke'], ['.strip .d', 'stroke'], ['.g', 'fill']]) {
    for (const element of document.querySelectorAll(selector)) {
      if (ratio(getComputedStyle(element)[property], behind(element)) < 3) low.push(selector);
    }
  }
  return [...new Set(low)];
})()`;

for (const scheme of ['light', 'dark'] as const) {
  inBrowser(`contrast and width: ${scheme}`, async (t, page) => {
    for (const width of WIDTHS) {
      await page.open(PAGE, { width, scheme });
      t.strictSame(await page.evaluate(CONTRAST), [], `contrast at ${width}`);
      t.ok(
        (await page.evaluate<number>('document.documentElement.scrollWidth')) <= width,
        `nothing is wider than ${width}`,
      );
      const image = await page.screenshot();
      t.ok(image.length > 10_000);
      const shots = process.env['SCREENSHOTS'];
      if (shots !== undefined) writeFileSync(join(shots, `report-${scheme}-${width}.png`), image);
    }
  });
}

inBrowser('in print the colours are dark on light, the details open, and controls absent', async (t, page) => {
  await page.open(PAGE, { width: 700, scheme: 'dark', media: 'print' });
  t.strictSame(await page.evaluate(CONTRAST), []);
  t.equal(await page.evaluate('getComputedStyle(document.body).backgroundColor'), 'rgb(255, 255, 255)');
  t.match(await page.evaluate('document.body.innerText'), /Last verified in full/);
  t.equal(await page.evaluate(`getComputedStyle(document.forms[0]).display`), 'none');
  t.ok((await page.pdf()).length > 20_000);
});

inBrowser('500 clusters of 90 days are less than 5 MB', async (t, page) => {
  const many = Array.from({ length: 500 }, (_, index) =>
    reported(
      `cluster-${index}`,
      series(360, 6 * HOUR).filter((_, i) => (i + index) % 61 > 2),
      weekly,
    ),
  );
  const file = fileOf(many, 'many');
  const size = Buffer.byteLength(pageOf(many));
  t.ok(size < 5e6, `${size} bytes`);
  await page.send('Performance.enable', { timeDomain: 'threadTicks' });
  const ms = await page.open(file, { width: 1280 });
  const { metrics } = (await page.send('Performance.getMetrics')) as { metrics: { name: string; value: number }[] };
  const cpu = metrics.find(({ name }) => name === 'TaskDuration')?.value ?? NaN;
  t.comment(`loaded in ${Math.round(ms)} ms, of which the page used ${Math.round(cpu * 1000)} ms of CPU time`);
  t.equal(await page.evaluate(`document.querySelector('output').value`), '500 of 500 clusters');
});
