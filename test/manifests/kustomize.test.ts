import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { parseCommandLine } from '../../src/cli.ts';
import { type Config, readConfig, unknownVariables } from '../../src/config/config.ts';
import { ExitCode } from '../../src/errors.ts';
import { TERMINATION_LOG } from '../../src/monitoring/termination-message.ts';
import { findCertificates, LAYOUTS, namedLayout } from '../../src/installer-layouts.ts';
import { findJudge, judge, without } from '../support/judges.ts';
import {
  build,
  buildOwn,
  type Built,
  deadlineProblems,
  kustomizations,
  MANIFESTS,
  sourcesOf,
  type Work,
  worksOf,
} from '../support/manifests.ts';
import { mustRun, temporaryFolder } from '../support/process.ts';

const ROOT = join(MANIFESTS, '..');
/** The pages that explain the manifests. */
const PAGES = ['README.md', 'docs/kubernetes.md', 'docs/configuration.md', 'docs/k3s-rke2.md'];
const [README = '', DOC = '', CONFIGURATION = '', RANCHER = ''] = PAGES.map((page) =>
  readFileSync(join(ROOT, page), 'utf8'),
);
const RESTORES = ['aks-engine', 'kubeadm'] as const;
const OVERLAYS = ['aks-engine', 'kubeadm', 'k3s', 'rke2'];
/** The versions of Kubernetes against whose API everything is checked; of PrometheusRules only the newest checker knows. */
const KUBERNETES = ['1.25', '1.31', '1.37'];
const COMPONENTS = kustomizations().filter(({ kustomization }) => kustomization.kind === 'Component');
const COMPLETE = { skip: without('kubectl') };

/** Each kustomization as it is; each overlay with all components that none includes; and each restore with its own. */
const builds = COMPLETE.skip === false ? await buildAll() : [];

t.test('kustomize builds every folder, and no component is left out', COMPLETE, (t) => {
  for (const { name, objects } of builds) t.ok(objects.length > 0, name);
  const used = new Set(builds.flatMap(({ dir }) => sourcesOf(dir)));
  for (const { dir } of COMPONENTS) for (const source of sourcesOf(dir)) t.ok(used.has(source), dir);
  t.strictSame(
    kustomizations()
      .map(({ dir }) => dir)
      .filter((dir) => dirname(dir) === join(MANIFESTS, 'overlays')),
    OVERLAYS.map((name) => join(MANIFESTS, 'overlays', name)).toSorted(),
  );
  t.end();
});

for (const version of KUBERNETES) {
  const checker = `manifestcheck-${version}`;
  t.test(`Kubernetes ${version} knows every field`, { skip: COMPLETE.skip || without(checker) }, async (t) => {
    const isOperators = (document: string): boolean => document.includes('apiVersion: monitoring.coreos.com/');
    for (const { name, yaml } of builds) {
      const documents = yaml
        .split(/^---$/m)
        .filter((document) => version === KUBERNETES.at(-1) || !isOperators(document));
      if (documents.length === 0) continue;
      const { code, stderr } = await judge(checker, documents.join('---'));
      t.equal(code, 0, `${name}: ${stderr}`);
    }
    const drop = builds.find(({ name }) => name === '')?.yaml ?? '';
    const spoilt = [
      [/backoffLimit: 4/, 'backofLimit: 4'],
      [/mountPath:/, 'mountpath:'],
      [/hostNetwork: true/, 'hostNetwork: yes please'],
      [/activeDeadlineSeconds: 4500/, 'activeDeadlineSeconds: 10m'],
      [/( +)hostNetwork: true/, '$1hostNetwork: true\n$1hostNetwork: true'],
      [/apiVersion: batch\/v1/, 'apiVersion: batch/v1beta1'],
    ] as const;
    for (const [from, to] of spoilt) {
      t.match(drop, from);
      t.equal((await judge(checker, drop.replace(from, to))).code, 1, to);
    }
    t.equal((await judge(checker, '')).code, 1, 'nothing is not enough');
  });
}

t.test('Kubernetes accepts the values', { skip: COMPLETE.skip || without('manifestvalidate') }, async (t) => {
  for (const each of builds.filter((each) => worksOf(each).length > 0)) {
    const { code, stdout, stderr } = await judge('manifestvalidate', each.yaml);
    t.match(
      { code, stdout },
      { code: 0, stdout: `${worksOf(each).length} accepted, 0 refused` },
      `${each.name}: ${stderr}`,
    );
  }
  const drop = built('').yaml;
  const spoilt = [
    [/schedule: .*/, 'schedule: 0 25 * * *', /end of range/],
    [/restartPolicy: Never/, 'restartPolicy: OnFailure', /only "Never" is supported/],
    [/containerName: .*/, 'containerName: worker', /podFailurePolicy/],
    [/name: certs$/m, 'name: certificates', /volumeMounts/],
    [/concurrencyPolicy: Replace/, 'concurrencyPolicy: Never', /concurrencyPolicy/],
  ] as const;
  for (const [from, to, complaint] of spoilt) {
    t.match(drop, from);
    t.match(await judge('manifestvalidate', drop.replace(from, to)), { code: 1, stderr: complaint }, to);
  }
});

t.test('names, labels and namespaces agree', COMPLETE, (t) => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  for (const built of builds) {
    for (const { kind, metadata } of built.objects) {
      t.match(metadata.name, /^[a-z]([-a-z0-9]*[a-z0-9])?$/, built.name);
      // Rules and dashboards live where Prometheus and Grafana look for them.
      if (!['CronJob', 'Job', 'ServiceAccount'].includes(kind)) continue;
      t.equal(metadata.namespace, 'kube-system', `${built.name}: ${kind} ${metadata.name}`);
      t.equal(metadata.labels['app.kubernetes.io/name'], 'etcd-snapshot');
      t.ok(metadata.labels['app.kubernetes.io/component']);
    }
    for (const { name, metadata, cron, job, pod, container } of worksOf(built)) {
      const { labels } = metadata;
      for (const inner of [job.template.metadata, cron?.jobTemplate.metadata]) {
        if (inner !== undefined) t.match(inner.labels, labels, `${built.name}: ${name}`);
      }
      t.ok(name.length <= 52, 'the controller adds eleven characters to it');
      t.equal(pod.containers.length, 1);
      t.equal(container.name, 'snapshot-worker');
      t.match(container.image, new RegExp(`^(registry\\.example\\.com/)?etcd-snapshot-azure-blob:${version}$`));
      const accounts = built.objects
        .filter(({ kind }) => kind === 'ServiceAccount')
        .map((object) => object.metadata.name);
      if (pod.serviceAccountName !== undefined) t.ok(accounts.includes(pod.serviceAccountName), pod.serviceAccountName);
      for (const { secretRef } of container.envFrom) t.match(README + DOC, secretRef.name);
    }
  }
  t.end();
});

t.test('the worker understands the arguments and variables of each container', COMPLETE, (t) => {
  for (const { where, work } of everyWork()) {
    const names = (work.container.env ?? []).map(({ name }) => name);
    const args = (work.container.args ?? []).join(' ');
    const told = names.filter((name) => !args.includes(`$(${name})`));
    t.strictSame(unknownVariables(Object.fromEntries(told.map((name) => [name, 'x']))), [], where);
    for (const name of told) t.ok(CONFIGURATION.includes(`| \`${name}\` |`), `${where}: ${name} is explained`);
    t.doesNotThrow(() => configOf(work), where);
  }
  t.end();
});

t.test('deadlines that do not fit are found', COMPLETE, (t) => {
  const { job } = backupOf(built(''));
  const withDeadlines = (attempt: number, all: number): typeof job => {
    const spec = { ...job.template.spec, activeDeadlineSeconds: attempt };
    return { ...job, activeDeadlineSeconds: all, template: { ...job.template, spec } };
  };
  const { activeDeadlineSeconds: _, ...unlimited } = job.template.spec;
  // 700 = 570 + 120 + 10; 3650 = 5 × 700 + 10 + 20 + 40 + 80.
  const cases: [Parameters<typeof deadlineProblems>, number][] = [
    [[withDeadlines(700, 3650), 570], 0],
    [[withDeadlines(699, 3650), 570], 1],
    [[withDeadlines(700, 3649), 570], 1],
    [[withDeadlines(700, 3650), 571], 1],
    [[{ ...withDeadlines(700, 3650), backoffLimit: 5 }, 570], 1],
    [[{ ...withDeadlines(700, 600), backoffLimit: 2 }, 570], 1],
    [[withDeadlines(580, 600), 570], 2],
    [[{ ...job, template: { ...job.template, spec: unlimited } }, 570], 1],
  ];
  for (const [[spec, timeout], problems] of cases) {
    t.equal(deadlineProblems(spec, timeout).length, problems, JSON.stringify(deadlineProblems(spec, timeout)));
  }
  t.end();
});

/** By component: the exit codes after which another try would end alike. */
const FINAL: Record<string, number[]> = {
  backup: [ExitCode.usage, ExitCode.incomplete, ExitCode.verification],
  drill: [ExitCode.usage, ExitCode.verification, ExitCode.noSuchSnapshot],
  prune: [ExitCode.usage, ExitCode.incomplete],
  report: [ExitCode.usage, ExitCode.unsafe],
  copy: [ExitCode.usage, ExitCode.verification],
  restore: [ExitCode.usage, ExitCode.verification, ExitCode.noSuchSnapshot, ExitCode.unsafe],
};

t.test('time limits match, and permanent failures are not retried', COMPLETE, (t) => {
  for (const { where, work } of everyWork()) {
    const { cron, job, pod, container } = work;
    t.strictSame(deadlineProblems(job, configOf(work).timeout), [], where);
    t.ok(pod.terminationGracePeriodSeconds > 2, `${where}: the worker needs two seconds`);
    t.equal(pod.restartPolicy, 'Never', `${where}: podFailurePolicy demands it`);
    if (cron !== undefined) {
      const interval = shortestGap(cron.schedule);
      t.ok(job.activeDeadlineSeconds < interval, `${where}: a run ends before the next one begins`);
      t.ok(cron.startingDeadlineSeconds > 10, `${where}: fewer than ten seconds are never scheduled`);
      t.ok(cron.startingDeadlineSeconds < interval, where);
      // With Forbid, a run whose node died would stop all others: its pod never ends.
      t.match(cron, { concurrencyPolicy: 'Replace', successfulJobsHistoryLimit: 2, failedJobsHistoryLimit: 2 }, where);
    }
    t.equal(job.ttlSecondsAfterFinished, undefined, `${where}: the history keeps failed Jobs, and alerts need them`);
    t.equal(job.backoffLimit, 4, `${where}: two and a half minutes of pauses`);
    const [disruption, failure, ...others] = job.podFailurePolicy.rules;
    t.strictSame(
      disruption,
      { action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] },
      where,
    );
    t.match(failure, { action: 'FailJob', onExitCodes: { containerName: container.name, operator: 'In' } }, where);
    t.strictSame(others, []);
    const final = failure?.onExitCodes?.values ?? [];
    t.strictSame(final, FINAL[work.metadata.labels['app.kubernetes.io/component'] ?? ''], where);
    for (const code of final) t.ok((Object.values(ExitCode) as number[]).includes(code), `${code}`);
    t.match(container, {
      terminationMessagePath: TERMINATION_LOG,
      terminationMessagePolicy: 'FallbackToLogsOnError',
    });
  }
  t.end();
});

interface Verdict {
  readonly name: string;
  readonly forbidden: readonly string[];
}

/** What Pod Security calls it, and what the manifests do. */
const EXCEPTIONS: Record<string, string> = {
  'host namespaces': 'hostNetwork',
  'restricted volume types': 'hostPath',
  'hostPath volumes': 'hostPath',
  'runAsNonRoot != true': 'runAsNonRoot',
  'runAsUser=0': 'runAsNonRoot',
  'unrestricted capabilities': 'capabilities',
};

t.test(
  'Pod Security: restricted, but for the exceptions that the manifests explain',
  { skip: COMPLETE.skip || without('podsecurity') },
  async (t) => {
    for (const built of builds) {
      const { stdout, stderr } = await judge('podsecurity', built.yaml);
      const verdicts = stdout
        .trim()
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Verdict);
      t.equal(verdicts.length, worksOf(built).length, stderr);
      for (const { name, forbidden } of verdicts) {
        const explained = sourcesOf(built.dir)
          .filter((source) => source.includes(`  name: ${name}\n`))
          .flatMap((source) =>
            [...source.matchAll(/# Exception to restricted \((\w+)\): \w/g)].map(([, name = '']) => name),
          );
        const found = forbidden.map((reason) => EXCEPTIONS[reason] ?? reason);
        t.strictSame([...new Set(found)].toSorted(), [...new Set(explained)].toSorted(), `${built.name}: ${name}`);
      }
      for (const { name, forbidden } of verdicts) {
        if (/-(copy|drill|prune|report)$/.test(name)) t.strictSame(forbidden, [], name);
      }
    }
  },
);

t.test('least privilege beyond that', COMPLETE, (t) => {
  for (const { where, work } of everyWork()) {
    const { pod, container } = work;
    t.match(pod, { automountServiceAccountToken: false, enableServiceLinks: false }, where);
    t.ok(container.securityContext.readOnlyRootFilesystem, where);
    t.ok(
      container.resources.limits.memory && container.resources.requests.memory && container.resources.requests.cpu,
      where,
    );
    for (const { emptyDir } of pod.volumes ?? []) {
      if (emptyDir === undefined) continue;
      t.ok(emptyDir.sizeLimit, where);
      t.ok(container.resources.requests['ephemeral-storage'], `${where}: a sizeLimit says nothing to the scheduler`);
    }
    const mounts = new Map(container.volumeMounts?.map((mount) => [mount.name, mount]));
    t.strictSame((pod.volumes ?? []).map(({ name }) => name).toSorted(), [...mounts.keys()].toSorted(), where);
    for (const { name, hostPath } of pod.volumes ?? []) {
      if (hostPath === undefined || work.name.includes('restore')) continue;
      t.match(mounts.get(name), { mountPath: hostPath.path, readOnly: true }, where);
      t.match(hostPath.type, /^(File|Directory)$/, `${where}: what is missing is not made`);
    }
  }
  t.end();
});

t.test('the components with the keys mount what the worker stores', COMPLETE, (t) => {
  for (const name of OVERLAYS) {
    const { container, pod } = backupOf(built(`overlays/${name} with all components`));
    t.match(
      container.env?.find((variable) => variable.name === 'SNAPSHOT_BUNDLE'),
      { value: name },
    );
    const mounted = (pod.volumes ?? []).flatMap(({ hostPath }) => hostPath?.path ?? []);
    for (const path of LAYOUTS[namedLayout(name)].keys.required) {
      t.ok(
        mounted.some((dir) => path === dir || path.startsWith(`${dir}/`)),
        path,
      );
    }
  }
  t.end();
});

t.test(
  'each overlay mounts the certificate that the worker looks for, and nothing else of the host',
  COMPLETE,
  async (t) => {
    for (const name of OVERLAYS) {
      const { container, pod } = backupOf(built(`overlays/${name}`));
      const mounts = (container.volumeMounts ?? [])
        .filter(({ mountPath }) => mountPath !== '/spool')
        .map(({ mountPath }) => mountPath);
      const isDirectory = pod.volumes?.some(({ hostPath }) => hostPath?.type === 'Directory') === true;
      const host = temporaryFolder('host');
      for (const path of isDirectory ? [] : mounts) {
        mkdirSync(dirname(join(host, path)), { recursive: true });
        writeFileSync(join(host, path), '');
      }
      const { ca, cert, key } = await findCertificates(host);
      const files = [ca, cert, key];
      if (isDirectory) t.strictSame([...new Set(files.map((file) => dirname(file)))], mounts, name);
      else t.strictSame(files.toSorted(), mounts.toSorted(), name);
      for (const file of files) t.ok(CONFIGURATION.includes(`\`${file}\``), `${name}: ${file} is explained`);
    }
  },
);

/** By Rancher for each role of a server; and what k3s and RKE2 document for dedicated ones. */
const RANCHER_TAINTS = [
  'node-role.kubernetes.io/control-plane:NoSchedule',
  'node-role.kubernetes.io/etcd:NoExecute',
  'CriticalAddonsOnly:NoExecute',
];

t.test('it finds its node under each label, whatever its taints are', COMPLETE, (t) => {
  const control = ['control-plane', 'master'].map((role) => `node-role.kubernetes.io/${role}`);
  const wanted: Record<string, { labels: string[]; taints: string[] }> = {
    'aks-engine': { labels: control, taints: control.map((key) => `${key}:NoSchedule`) },
    kubeadm: { labels: control, taints: control.map((key) => `${key}:NoSchedule`) },
    k3s: { labels: ['node-role.kubernetes.io/etcd'], taints: RANCHER_TAINTS },
    rke2: { labels: ['node-role.kubernetes.io/etcd'], taints: RANCHER_TAINTS },
  };
  for (const name of OVERLAYS) {
    const { pod } = backupOf(built(`overlays/${name}`));
    const terms = pod.affinity?.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];
    // Terms are alternatives; expressions within one are not.
    const expected = wanted[name]?.labels.map((key) => ({ matchExpressions: [{ key, operator: 'Exists' }] }));
    t.strictSame(terms, expected, name);
    for (const taint of wanted[name]?.taints ?? []) {
      const [key, effect] = taint.split(':');
      const isTolerated = pod.tolerations?.some(
        (toleration) =>
          toleration.operator === 'Exists' && toleration.key === key && (toleration.effect ?? effect) === effect,
      );
      t.ok(isTolerated, `${name}: ${taint}`);
    }
  }
  t.end();
});

t.test("a drop-in for the book's CronJob", COMPLETE, async (t) => {
  const [dropIn, aksEngine] = [built(''), built('overlays/aks-engine')];
  const { metadata, cron, pod, container } = backupOf(dropIn);
  t.match(metadata, { name: 'etcd-snapshot-azure-blob-job', namespace: 'kube-system' });
  t.match(cron, { schedule: '0 */6 * * *', successfulJobsHistoryLimit: 2, failedJobsHistoryLimit: 2 });
  t.match(pod, { restartPolicy: 'Never', hostNetwork: true });
  t.match(container, {
    name: 'snapshot-worker',
    envFrom: [{ secretRef: { name: 'etcd-snapshot-azure-blob-job-secrets' } }],
    volumeMounts: [{ mountPath: '/etc/kubernetes/certs', readOnly: true }],
  });
  const certs = pod.volumes?.find(({ name }) => name === 'certs');
  t.match(certs, { hostPath: { path: '/etc/kubernetes/certs', type: 'Directory' } });
  const registry = /registry\.example\.com\//g;
  t.equal(dropIn.yaml.replaceAll(registry, ''), aksEngine.yaml, 'all but the registry is that of the overlay');
});

t.test('workload identity: the settings are that credential, for each service account its own', COMPLETE, (t) => {
  const complete = built('overlays/kubeadm with all components');
  const { data } = parse(identityExample()) as { data: Record<string, string> };
  const works = worksOf(complete);
  t.equal(works.length, 5);
  for (const work of works) {
    const { job, pod, container } = work;
    const { storage } = configOf(work);
    const token = pod.volumes?.find(({ name }) => name === 'azure-identity-token')?.projected?.sources[0]
      ?.serviceAccountToken;
    const mount = container.volumeMounts?.find(({ name }) => name === 'azure-identity-token');
    t.equal(token?.audience, 'api://AzureADTokenExchange');
    const account = pod.serviceAccountName ?? '';
    const clientId = data[account];
    t.match(
      storage?.credential,
      {
        kind: 'workload-identity',
        clientId,
        tenant: data['tenant-id'],
        tokenFile: `${mount?.mountPath}/${token?.path}`,
      },
      `${work.name}: although the Secret has an account key`,
    );
    t.equal(job.template.metadata.labels['azure.workload.identity/use'], 'true');
    const { annotations } =
      complete.objects.find(({ kind, metadata }) => kind === 'ServiceAccount' && metadata.name === account)?.metadata ??
      {};
    t.strictSame(annotations, {
      'azure.workload.identity/client-id': clientId,
      'azure.workload.identity/tenant-id': data['tenant-id'],
    });
  }
  t.equal(
    new Set(works.map((work) => configOf(work).storage?.credential).map((credential) => JSON.stringify(credential)))
      .size,
    5,
  );
  t.end();
});

t.test('a restore on each node, as its instructions say', COMPLETE, async (t) => {
  const text = readFileSync(join(MANIFESTS, 'restore', 'base', 'kustomization.yaml'), 'utf8');
  t.match(text, /create configmap etcd-snapshot-plan .*--from-file=plan\.json/);
  const [, from = '', to = ''] = /sed "s\/([^/]+)\/(\$node)\/g"/.exec(text) ?? [];
  for (const name of RESTORES) {
    const { yaml } = built(`restore/${name}`);
    const file = join(temporaryFolder('restore'), 'job.yaml');
    writeFileSync(file, yaml.replaceAll(from, to.replace('$node', 'master-1')));
    const sent = JSON.parse(await mustRun('cat', [file]).then((plain) => JSON.stringify(parse(plain))));
    t.match(sent, {
      metadata: { name: 'etcd-snapshot-restore-master-1' },
      spec: { template: { spec: { nodeName: 'master-1' } } },
    });
    const [work] = worksOf(built(`restore/${name}`));
    const [data, member] = (work?.pod.volumes ?? []).flatMap(({ hostPath }) => hostPath ?? []);
    t.strictSame(member, { path: LAYOUTS[name].configFile, type: 'File' });
    const config = work?.container.volumeMounts?.find(({ name }) => name === 'member');
    t.strictSame(config, { name: 'member', mountPath: member?.path, readOnly: true });
    t.strictSame(work?.container.args?.slice(-2), ['--from', member?.path]);
    t.strictSame(data, { path: LAYOUTS[name].dataDir, type: 'Directory' });
    t.ok(
      work?.container.volumeMounts?.some(({ mountPath, readOnly }) => mountPath === data?.path && readOnly !== true),
    );
    const plan = work?.container.volumeMounts?.find(({ name }) => name === 'plan')?.mountPath;
    t.ok(work?.container.args?.includes(`${plan}/plan.json`));
    t.strictSame(work?.container.securityContext.capabilities.add, ['CHOWN', 'DAC_OVERRIDE', 'FOWNER']);
    t.strictSame(work?.pod.tolerations, [{ operator: 'Exists' }]);
    t.equal(work && configOf(work).identityFile, undefined);
    const [opening] = worksOf(built(`restore/${name} with keys`));
    const mount = opening?.container.volumeMounts?.find((each) => each.name === 'identity');
    t.equal(opening && configOf(opening).identityFile, `${mount?.mountPath}/identity.txt`);
    const keys = opening?.container.volumeMounts?.find((each) => each.name === 'verification-keys');
    const { verificationKeysFile } = (opening && configOf(opening).signatures) ?? {};
    t.equal(verificationKeysFile, `${keys?.mountPath}/verification.pem`);
    t.ok(opening?.pod.volumes?.some((each) => each.name === 'verification-keys'));
    t.strictSame(
      opening?.pod.volumes?.find((each) => each.name === 'identity'),
      { name: 'identity', secret: { secretName: 'etcd-snapshot-identity' } },
    );
  }
});

t.test('the kustomizations of the docs build', COMPLETE, async (t) => {
  const texts = [...(DOC + RANCHER).matchAll(/```yaml\n([^`]*kind: Kustomization\n[^`]*)```/g)].map(
    ([, text = '']) => text,
  );
  t.equal(texts.length, 3);
  for (const text of texts) {
    const local = text.replaceAll(/https:\/\/\S+?\/\/manifests\/(\S+)\?ref=v\S+/g, 'MANIFESTS/$1');
    t.notMatch(local, /https:/);
    const own = await buildOwn('of the docs', local, {
      'identity.yaml': identityExample(),
      'ca.pem': 'a certificate',
    });
    for (const version of KUBERNETES.filter((name) => findJudge(`manifestcheck-${name}`))) {
      const { code, stderr } = await judge(`manifestcheck-${version}`, own.yaml);
      t.equal(code, 0, stderr);
    }
    for (const { job, cron, name, ...work } of worksOf(own)) {
      t.strictSame(deadlineProblems(job, configOf({ job, cron, name, ...work }).timeout), [], name);
      if (cron !== undefined) t.ok(job.activeDeadlineSeconds < shortestGap(cron.schedule), name);
    }
  }
});

t.test('one patch adds a private CA to all three CronJobs', COMPLETE, async (t) => {
  const text = [...DOC.matchAll(/```yaml\n([^`]*kind: Kustomization\n[^`]*)```/g)]
    .map(([, found = '']) => found)
    .find((found) => found.includes('NODE_EXTRA_CA_CERTS'));
  const local = text?.replaceAll(/https:\/\/\S+?\/\/manifests\/(\S+)\?ref=v\S+/g, 'MANIFESTS/$1') ?? '';
  const own = await buildOwn('with a private CA', local, { 'ca.pem': 'a certificate' });
  const works = worksOf(own);
  t.strictSame(
    new Set(works.map(({ metadata }) => metadata.labels['app.kubernetes.io/component'])),
    new Set(['backup', 'drill', 'prune']),
  );
  const generated = (own.objects as readonly { kind: string; metadata: { name: string } }[]).find(
    ({ kind }) => kind === 'ConfigMap',
  );
  for (const { name, container, pod } of works) {
    const file = container.env?.find((variable) => variable.name === 'NODE_EXTRA_CA_CERTS')?.value ?? '';
    const mount = container.volumeMounts?.find(({ mountPath }) => mountPath === dirname(file));
    const volume = pod.volumes?.find((candidate) => candidate.name === mount?.name);
    t.equal(volume?.configMap?.name, generated?.metadata.name, `${name}: ${file} is in the volume`);
    for (const list of [container.env, container.volumeMounts, pod.volumes]) t.ok((list?.length ?? 0) > 1, name);
  }
});

t.test('the example Secret, made by kubectl, is a whole configuration of known variables', COMPLETE, async (t) => {
  const command = /kubectl create secret generic (\S+) --namespace kube-system \\\n {2}--from-env-file=\S+/.exec(
    README,
  );
  const file = join(MANIFESTS, 'secret.example.txt');
  const options = ['create', 'secret', 'generic', command?.[1] ?? '', '--namespace', 'kube-system'];
  const yaml = await mustRun(findJudge('kubectl') ?? '', [
    ...options,
    `--from-env-file=${file}`,
    '--dry-run=client',
    '-o',
    'yaml',
  ]);
  const { metadata, data } = parse(yaml) as { metadata: { name: string }; data: Record<string, string> };
  t.equal(metadata.name, 'etcd-snapshot-azure-blob-job-secrets');
  const env = Object.fromEntries(
    Object.entries(data).map(([name, value]) => [name, Buffer.from(value, 'base64').toString()]),
  );
  t.match(env['SNAPSHOT_AZURE_ACCOUNT_KEY'], /^".*"$/, 'kubectl keeps the quotation marks');
  t.strictSame(Object.keys(env), Object.keys(exampleSecret()).toSorted());
  t.strictSame(unknownVariables(env), []);
  t.equal(readConfig(exampleSecret(), { etcd: true, storage: true }).retention.rules.last, 28);
});

async function buildAll(): Promise<Built[]> {
  const plain = kustomizations().filter(({ kustomization }) => kustomization.kind === 'Kustomization');
  const included = new Set(
    kustomizations().flatMap(({ dir, kustomization }) =>
      (kustomization.components ?? []).map((path) => join(dir, path)),
    ),
  );
  // Workload identity comes last, for it changes what the others bring; so it does in the alphabet.
  const free = COMPONENTS.map(({ dir }) => dir.slice(MANIFESTS.length + 1)).filter(
    (dir) => dir.startsWith('components/') && !included.has(join(MANIFESTS, dir)),
  );
  const complete = OVERLAYS.map(async (overlay) =>
    buildOwn(
      `overlays/${overlay} with all components`,
      [
        ...['kind: Kustomization', 'resources:', `  - MANIFESTS/overlays/${overlay}`, '  - identity.yaml'],
        ...['components:', ...free.filter((dir) => isOf(overlay, dir)).map((dir) => `  - MANIFESTS/${dir}`)],
      ].join('\n'),
      { 'identity.yaml': identityExample() },
    ),
  );
  const restores = RESTORES.map(async (layout) => {
    const text = readFileSync(join(MANIFESTS, 'restore', layout, 'kustomization.yaml'), 'utf8');
    const local = text.replace('# components:', 'components:').replaceAll(/\.\.\//g, 'MANIFESTS/restore/');
    const data = readFileSync(join(MANIFESTS, 'restore', layout, 'data.yaml'), 'utf8');
    return buildOwn(`restore/${layout} with keys`, local, { 'data.yaml': data });
  });
  return Promise.all([...plain.map(async ({ dir }) => build(dir)), ...complete, ...restores]);
}

/** Components with a directory for each overlay. */
function isOf(overlay: string, component: string): boolean {
  return !/^components\/(bundle|import)\//.test(component) || component.endsWith(`/${overlay}`);
}

function built(name: string): Built {
  const found = builds.find((candidate) => candidate.name === name);
  if (found === undefined) throw new Error(`${name} was not built`);
  return found;
}

function everyWork(): { readonly where: string; readonly work: Work }[] {
  return builds.flatMap((each) => worksOf(each).map((work) => ({ where: `${each.name}: ${work.name}`, work })));
}

function backupOf(each: Built): Work {
  const work = worksOf(each).find(({ name }) => name === 'etcd-snapshot-azure-blob-job');
  if (work === undefined) throw new Error(`${each.name} has no backup`);
  return work;
}

/** What the Secret of the copy has in addition. */
const SECOND_PLACE = {
  SNAPSHOT_COPY_AZURE_ACCOUNT_NAME: 'secondbackups',
  SNAPSHOT_COPY_AZURE_ACCOUNT_KEY: `${'k'.repeat(86)}==`,
  SNAPSHOT_COPY_AZURE_CONTAINER_NAME: 'my-cluster',
};

/** What the worker makes of the command, the variables and the Secret of a container. */
function configOf({ container: { args = [], env = [] } }: Work): Config {
  const own = Object.fromEntries(env.map(({ name, value = 'told-by-kubernetes' }) => [name, value]));
  const words = args.map((arg) => arg.replaceAll(/\$\((\w+)\)/g, (_, name: string) => own[name] ?? 'unknown'));
  // A mount is a directory that exists.
  const mounted = own['SNAPSHOT_SPOOL_DIR'] === undefined ? {} : { SNAPSHOT_SPOOL_DIR: temporaryFolder('mounted') };
  return readConfig({ ...exampleSecret(), ...SECOND_PLACE, ...own, ...mounted }, parseCommandLine(words).needs);
}

/** Seconds between two runs that are nearest to each other. */
function shortestGap(schedule: string): number {
  const [minutes = '', hours = '', days, months, weekdays = ''] = schedule.split(' ');
  if (days !== '*' || months !== '*') throw new Error(`${schedule} is not understood here`);
  const fits = (field: string, value: number): boolean => {
    const [base, step] = field.split('/');
    return base === '*' ? value % Number(step ?? 1) === 0 : field.split(',').map(Number).includes(value);
  };
  const runs = Array.from({ length: 15 * 24 * 60 }, (_, minute) => minute).filter(
    (minute) =>
      fits(minutes, minute % 60) &&
      fits(hours, Math.floor(minute / 60) % 24) &&
      fits(weekdays, Math.floor(minute / 1440) % 7),
  );
  return 60 * Math.min(...runs.slice(1).map((run, index) => run - (runs[index] ?? 0)));
}

/** The ids of the example, each another one. */
function identityExample(): string {
  const text = readFileSync(join(MANIFESTS, 'components', 'workload-identity', 'identity.example.yaml'), 'utf8');
  let last = 4;
  return text.replaceAll(
    '5bd3a0fb-7c5c-4a4e-8b2e-2f4c0a4f6a55',
    () => `5bd3a0fb-7c5c-4a4e-8b2e-2f4c0a4f6a5${(last += 1)}`,
  );
}

function exampleSecret(): Record<string, string> {
  const lines = readFileSync(join(MANIFESTS, 'secret.example.txt'), 'utf8').trim().split('\n');
  const env = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
  return { ...env, SNAPSHOT_AZURE_ACCOUNT_KEY: `"${'k'.repeat(86)}=="` };
}
