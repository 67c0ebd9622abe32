import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { readConfig, unknownVariables } from '../src/config.ts';

const MANIFESTS = join(import.meta.dirname, '..', 'manifests');

interface Taint {
  readonly key: string;
  readonly operator: string;
  readonly effect: string;
}

const cronJob = parse(readFileSync(join(MANIFESTS, 'base', 'cronjob.yaml'), 'utf8'));
const job = cronJob.spec.jobTemplate.spec;
const pod = job.template.spec;
const [container] = pod.containers;

t.test("a drop-in for the book's CronJob", (t) => {
  t.match(cronJob, {
    apiVersion: 'batch/v1',
    kind: 'CronJob',
    metadata: { name: 'etcd-snapshot-azure-blob-job', namespace: 'kube-system' },
    spec: { schedule: '0 */6 * * *', successfulJobsHistoryLimit: 2, failedJobsHistoryLimit: 2 },
  });
  t.match(job, { ttlSecondsAfterFinished: 21_600, activeDeadlineSeconds: 600 });
  t.match(pod, { restartPolicy: 'Never', hostNetwork: true });
  t.match(container, {
    name: 'snapshot-worker',
    envFrom: [{ secretRef: { name: 'etcd-snapshot-azure-blob-job-secrets' } }],
    volumeMounts: [{ mountPath: '/etc/kubernetes/certs', readOnly: true }],
  });
  const certs = pod.volumes.find(({ name }: { name: string }) => name === 'certs');
  t.match(certs, { hostPath: { path: '/etc/kubernetes/certs', type: 'Directory' } });
  t.strictSame(
    unknownVariables(Object.fromEntries(container.env.map(({ name }: { name: string }) => [name, 'x']))),
    [],
  );
  t.end();
});

t.test('it finds its node under the old and the new names', (t) => {
  for (const role of ['master', 'control-plane']) {
    const key = `node-role.kubernetes.io/${role}`;
    t.ok(
      pod.tolerations.some((taint: Taint) => taint.key === key && taint.operator === 'Exists'),
      key,
    );
    const terms = pod.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms;
    // Terms are alternatives; expressions within one are not.
    t.ok(
      terms.some(
        ({ matchExpressions }: { matchExpressions: Taint[] }) =>
          matchExpressions.length === 1 && matchExpressions[0]?.key === key,
      ),
      key,
    );
  }
  t.end();
});

t.test('least privilege', (t) => {
  t.match(pod, {
    automountServiceAccountToken: false,
    securityContext: { seccompProfile: { type: 'RuntimeDefault' } },
  });
  t.match(container.securityContext, {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  });
  t.ok(container.resources.limits.memory && container.resources.requests.memory);
  t.notOk(container.securityContext.privileged);
  t.end();
});

t.test('its times fit together', (t) => {
  const { timeout } = readConfig(exampleSecret(), { etcd: true, storage: true });
  t.ok(timeout < job.activeDeadlineSeconds, 'the worker ends before its Job does');
  t.ok(job.activeDeadlineSeconds < 6 * 3600);
  t.equal(cronJob.spec.concurrencyPolicy, 'Forbid');
  t.ok(cronJob.spec.startingDeadlineSeconds > 10, 'fewer than ten seconds are never scheduled');
  t.end();
});

t.test('the example Secret has only known variables, and is a whole configuration', (t) => {
  const env = exampleSecret();
  t.strictSame(unknownVariables(env), []);
  t.equal(readConfig(env, { etcd: true, storage: true }).retention.rules.last, 28);
  t.end();
});

function exampleSecret(): Record<string, string> {
  const lines = readFileSync(join(MANIFESTS, 'secret.example.txt'), 'utf8').trim().split('\n');
  const env = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
  return { ...env, SNAPSHOT_AZURE_ACCOUNT_KEY: `"${'k'.repeat(86)}=="` };
}
