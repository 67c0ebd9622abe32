import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { METRICS } from '../../src/monitoring/metrics.ts';
import { findJudge, without } from '../support/judges.ts';
import { run, temporaryFolder } from '../support/process.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const FILES = join(ROOT, 'manifests', 'helm', 'etcd-snapshot', 'files');
const DOC = readFileSync(join(ROOT, 'docs', 'monitoring.md'), 'utf8');
const promtool = findJudge('promtool') ?? '';
const skip = without('promtool');
const TESTS = ['alerts.yaml', 'alerts-of-days.yaml'];

/** The metrics of kube-state-metrics 2 in use; its documentation calls all of them stable. */
const KUBE_STATE_METRICS = [
  'kube_cronjob_created',
  'kube_cronjob_spec_suspend',
  'kube_cronjob_status_last_successful_time',
  'kube_job_complete',
  'kube_job_failed',
  'kube_job_owner',
  'kube_job_status_start_time',
];

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string; readonly runbook_url: string };
}

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly refId: string; readonly expr: string; readonly datasource: { uid: string } }[];
}

const resource = parse(readFileSync(join(FILES, 'prometheusrule.yaml'), 'utf8'));
const groups = resource.spec.groups as { readonly name: string; readonly rules: readonly Rule[] }[];
const rules = groups.flatMap((group) => group.rules);
const dashboard = JSON.parse(readFileSync(join(FILES, 'dashboard.json'), 'utf8'));
const panels: readonly Panel[] = dashboard.panels;

/** The names of metrics in an expression. */
function metricsIn(expr: string): string[] {
  return [...expr.matchAll(/\b(?:etcd_snapshot|kube)_\w+/g)].map(([name]) => name);
}

t.test('a PrometheusRule', (t) => {
  t.match(resource, { apiVersion: 'monitoring.coreos.com/v1', kind: 'PrometheusRule', metadata: { name: String } });
  t.strictSame(Object.keys(resource.spec), ['groups']);
  t.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length, 'alert names are unique');
  for (const { alert, expr, labels, annotations, ...others } of rules) {
    t.match(labels.severity, /^(critical|warning)$/, alert);
    t.strictSame(Object.keys(annotations), ['summary', 'description', 'runbook_url'], alert);
    t.strictSame(
      Object.keys(others).filter((key) => key !== 'for'),
      [],
      alert,
    );
    t.notMatch(expr, /\bcluster\b/, 'the label is named etcd_cluster');
  }
  t.end();
});

t.test('every alert links to its heading in the docs', (t) => {
  const [, chapter = ''] = /\n## Alerts\n([^]*)/.exec(DOC) ?? [];
  const anchors = [...chapter.matchAll(/^### (\w+)$/gm)].map(([, heading = '']) => heading.toLowerCase());
  const linked = rules.map(({ annotations }) => annotations.runbook_url.split('docs/monitoring.md#')[1]);
  t.strictSame(new Set(anchors), new Set(linked));
  for (const { alert } of rules) t.match(chapter, new RegExp(`### ${alert}\n|Also \`${alert}\``), alert);
  t.end();
});

t.test('alerts and dashboard use existing metrics', (t) => {
  const alerted = rules.flatMap(({ expr }) => metricsIn(expr));
  const shown = panels.flatMap(({ targets = [] }) => targets).flatMap(({ expr }) => metricsIn(expr));
  const variables = dashboard.templating.list.flatMap(({ definition = '' }) => metricsIn(definition));
  t.strictSame(new Set([...shown, ...variables]), new Set(Object.keys(METRICS)), 'the dashboard shows every metric');
  const known = new Set([...Object.keys(METRICS), ...KUBE_STATE_METRICS]);
  t.strictSame(
    alerted.filter((name) => !known.has(name)),
    [],
  );
  t.strictSame(new Set(alerted.filter((name) => name.startsWith('kube_'))), new Set(KUBE_STATE_METRICS));
  t.end();
});

t.test('the dashboard', (t) => {
  t.match(dashboard, { uid: 'etcd-snapshot', title: String, schemaVersion: 39 });
  t.match(dashboard.templating.list, [
    { name: 'datasource', type: 'datasource', query: 'prometheus' },
    { name: 'cluster', type: 'query', multi: true, includeAll: true },
  ]);
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, index) => `${x + (index % w)},${y + Math.floor(index / w)}`),
  );
  t.equal(new Set(cells).size, cells.length, 'no panels overlap');
  for (const { type, title, description, gridPos, targets = [] } of panels) {
    t.ok(gridPos.x + gridPos.w <= 24, title);
    if (type === 'row') continue;
    t.ok(description.endsWith('.'), title);
    t.ok(targets.length > 0, title);
    t.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length);
    for (const { expr, datasource } of targets) {
      t.match(expr, /\{etcd_cluster=~"\$cluster"\}/, title);
      t.equal(datasource.uid, '${datasource}');
    }
  }
  t.end();
});

t.test('kustomize builds both', { skip: without('kubectl') }, async (t) => {
  const { code, stdout, stderr } = await run(findJudge('kubectl') ?? '', [
    'kustomize',
    join(ROOT, 'manifests', 'monitoring'),
  ]);
  t.equal(code, 0, stderr);
  const made = parseAllDocuments(stdout).map((document) => document.toJS());
  t.match(made, [
    { kind: 'ConfigMap', metadata: { labels: { grafana_dashboard: '1' }, namespace: 'monitoring' } },
    { kind: 'PrometheusRule', metadata: { namespace: 'monitoring' } },
  ]);
  t.strictSame(JSON.parse(made[0].data['dashboard.json']), dashboard);
  t.match(made[1].spec, resource.spec);
});

t.test('every alert has a unit test', (t) => {
  const tests = TESTS.map((file) => readFileSync(join(import.meta.dirname, file), 'utf8')).join('\n');
  for (const { alert } of rules) t.match(tests, `alertname="${alert}"`, alert);
  t.end();
});

t.test('promtool: each alert fires when it should, and only then', { skip }, async (t) => {
  const dir = temporaryFolder('alerts');
  const file = join(dir, 'rules.yaml');
  writeFileSync(file, stringify(resource.spec));
  const checked = await run(promtool, ['check', 'rules', '--lint=all', '--lint-fatal', file]);
  t.equal(checked.code, 0, checked.stdout + checked.stderr);
  for (const name of TESTS) copyFileSync(join(import.meta.dirname, name), join(dir, name));
  const { code, stdout, stderr } = await run(promtool, ['test', 'rules', ...TESTS.map((name) => join(dir, name))]);
  t.equal(code, 0, stdout + stderr);
});

t.test('the scrape configuration of the docs is valid', { skip }, async (t) => {
  const file = join(temporaryFolder('scrape'), 'prometheus.yaml');
  writeFileSync(file, /```yaml\n(scrape_configs:[^]*?)```/.exec(DOC)?.[1] ?? '');
  const { code, stdout, stderr } = await run(promtool, ['check', 'config', file]);
  t.equal(code, 0, stdout + stderr);
});
