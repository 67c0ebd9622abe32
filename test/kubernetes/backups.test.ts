import t from 'tap';
import { commandsOf, IMAGE, JOBS, KubernetesSite, PODS } from '../support/kubernetes-site.ts';
import { withoutKubernetes } from '../support/kubernetes.ts';

// The quick start and the life of backups in a real Kubernetes: API server, controller manager, scheduler, two nodes.

const skip = withoutKubernetes();
if (skip !== false) {
  t.plan(0, skip);
  process.exit();
}

const CRON = 'etcd-snapshot-azure-blob-job';
const NAMESPACE = ['--namespace', 'kube-system'];
/** Any object. */
interface Named {
  readonly metadata: { readonly name: string };
}

const site = await KubernetesSite.start(['m1', 'm2']);
const { kubernetes } = site;
t.teardown(async () => site.stop());
await kubernetes.etcd.fill(200, 10_000, '/filler/');

t.test('the quick start, as the README has it', async (t) => {
  const [build = '', secret = '', apply = '', now = ''] = commandsOf('README.md', 'Quick start');
  t.match(build, `docker push ${IMAGE}\n`, 'the image that the nodes have');
  site.writeSecret('etcd-snapshot-secrets.txt', site.variables('quick'));
  await site.shell(secret);
  const applied = await site.shell(apply);
  const warnings = applied.stderr.split('\n').filter((line) => line.startsWith('Warning'));
  t.match(warnings, [/node-role\.kubernetes\.io\/master/], 'the harmless one that the docs name');
  t.equal(warnings.length, 1, applied.stderr);

  const { stdout } = await site.shell(now);
  t.match(stdout, /\nBackup kubernetes-etcd-snapshot_\d{8}_\d{6}\.db uploaded successfully!\n$/);
  t.equal((await site.azurite.names('quick')).length, 1);
  const again = await site.shell(now);
  t.match(again.stdout, /job\.batch\/etcd-snapshot-now-\d+ created\n/, 'and a second time');
  t.equal((await site.azurite.names('quick')).length, 2);
  const described = 'kubectl describe pod --namespace kube-system --selector app.kubernetes.io/component=backup';
  t.match((await site.shell(described)).stdout, /Message: .*kubernetes-etcd-snapshot_/, 'the result is in the status');
});

t.test('a schedule of every minute', async (t) => {
  const before = await site.azurite.names('quick');
  await site.patch('cronjob', CRON, { spec: { schedule: '* * * * *' } });
  await site.eventually('two scheduled runs', async () => (await site.jobsOf(CRON)).length >= 2);
  await site.patch('cronjob', CRON, { spec: { suspend: true } });
  for (const job of await site.jobsOf(CRON)) t.match(await site.outcome(job), { succeeded: true, pods: [{ code: 0 }] });
  t.ok((await site.azurite.names('quick')).length >= before.length + 2);
  const { stdout } = await site.shell(
    'kubectl get events --namespace kube-system --field-selector reason=UnexpectedJob --output name',
  );
  t.match(stdout, 'event/', 'because of the runs by hand, as the docs say');
});

t.test('the effect of each exit code', async (t) => {
  const refused = `https://198.18.0.1:9`;
  const twice = { backoffLimit: 1 };
  await Promise.all([
    site.startJob('code-2', CRON, { env: { SNAPSHOT_TIMEOUT: 'tomorrow' } }),
    site.startJob('code-3', CRON, {
      env: {
        SNAPSHOT_AZURE_AUTH: 'sas',
        SNAPSHOT_AZURE_SAS_TOKEN: site.sas('quick', 'rcwl'),
        SNAPSHOT_KEEP_LAST: '1',
      },
    }),
    site.startJob('code-10', CRON, { env: { SNAPSHOT_ETCD_ENDPOINTS: refused }, job: twice }),
    site.startJob('code-12', CRON, { env: { SNAPSHOT_AZURE_BLOB_ENDPOINT: `${refused}/testaccount` }, job: twice }),
    site.startJob('code-13', CRON, { args: ['verify', 'kubernetes-etcd-snapshot_20200101_000000.db'], job: twice }),
  ]);
  const final = { succeeded: false, reason: 'PodFailurePolicy' };
  const retried = { succeeded: false, reason: 'BackoffLimitExceeded' };
  const outcomes = {
    'code-2': { ...final, pods: [{ code: 2, message: /SNAPSHOT_TIMEOUT/ }] },
    'code-3': { ...final, pods: [{ code: 3, message: /retention/ }] },
    'code-10': { ...retried, pods: [{ code: 10, message: /198\.18\.0\.1:9/ }, { code: 10 }] },
    'code-12': { ...retried, pods: [{ code: 12, message: /198\.18\.0\.1/ }, { code: 12 }] },
    'code-13': { ...retried, pods: [{ code: 13, message: /kubernetes-etcd-snapshot_20200101_000000/ }, { code: 13 }] },
  };
  for (const [job, expected] of Object.entries(outcomes)) {
    const outcome = await site.outcome(job);
    t.match(outcome, expected, job);
    t.equal(outcome.pods.length, expected.pods.length, `${job}: no other attempt`);
  }
  const logs =
    commandsOf('docs/troubleshooting.md', 'Troubleshooting in Kubernetes').find((block) =>
      block.includes('--prefix'),
    ) ?? '';
  const { stdout } = await site.shell(logs.replace('NAME', 'code-10'));
  for (const { name } of (await site.outcome('code-10')).pods) t.match(stdout, `[pod/${name}/snapshot-worker] {`);
});

t.test('a Secret that is missing, and a namespace that refuses the pod: the events say it', async (t) => {
  const events =
    commandsOf('docs/troubleshooting.md', 'Troubleshooting in Kubernetes').find((block) =>
      block.includes('get events'),
    ) ?? '';
  await site.startJob('no-secret', CRON, { secret: 'forgotten' });
  await site.eventually('the missing Secret is named', async () =>
    (await site.shell(events)).stdout.includes('secret "forgotten" not found'),
  );
  await site.shell('kubectl delete job no-secret --namespace kube-system');
  const restricted = ['label', 'namespace', 'kube-system', '--overwrite'];
  await kubernetes.mustKubectl(...restricted, 'pod-security.kubernetes.io/enforce=restricted');
  await site.startJob('refused', CRON);
  await site.eventually('the refusal is named', async () =>
    (await site.shell(events)).stdout.includes('violates PodSecurity "restricted:latest"'),
  );
  t.strictSame(await site.podsOf('refused'), [], 'there is no pod');
  await kubernetes.mustKubectl(...restricted, 'pod-security.kubernetes.io/enforce=privileged');
  await site.shell('kubectl delete job refused --namespace kube-system');
});

t.test('a run that is deleted stops at once, and leaves nothing', async (t) => {
  const before = await site.azurite.names('quick');
  const release = site.hold();
  await site.startJob('deleted', CRON);
  const pod = await site.running('deleted');
  const follow = site.shell(`kubectl logs ${pod.metadata.name} --namespace kube-system --follow`);
  await site.eventually('it uploads', async () => site.waiting() > 0);
  await kubernetes.mustKubectl('delete', 'job', 'deleted', ...NAMESPACE);
  t.match((await follow).stdout, /SIGTERM|interrupted/i);
  release();
  t.strictSame(await site.azurite.names('quick'), before);
});

t.test('a node that is drained: the run starts again elsewhere, and that is no failure', async (t) => {
  const release = site.hold();
  await site.startJob('drained', CRON, { job: { backoffLimit: 0 } });
  const { spec } = await site.running('drained');
  await site.eventually('it uploads', async () => site.waiting() > 0);
  const drain =
    commandsOf('docs/troubleshooting.md', 'Troubleshooting in Kubernetes').find((block) =>
      block.includes('kubectl drain'),
    ) ?? '';
  const without = drain.replace('NODE', spec.nodeName).replace(' --delete-emptydir-data', '');
  await t.rejects(site.shell(without), /--delete-emptydir-data/, 'its spool is such a volume');
  await site.shell(drain.replace('NODE', spec.nodeName));
  release();
  const outcome = await site.outcome('drained');
  t.match(outcome, { succeeded: true });
  t.strictSame(
    outcome.pods.map(({ node }) => node),
    [spec.nodeName === 'm1' ? 'm2' : 'm1'],
  );
  await kubernetes.mustKubectl('uncordon', spec.nodeName);
});

t.test('kubectl delete removes everything', async (t) => {
  await site.shell('kubectl delete -k manifests');
  await site.eventually('no Job of a schedule or of a command of the docs is left', async () => {
    const lists = await Promise.all([PODS, JOBS].map(async (path) => kubernetes.get(path)));
    return lists.every(({ items }) =>
      items.every(({ metadata }: Named) => !metadata.name.startsWith('etcd-snapshot-')),
    );
  });
  t.pass('Jobs and pods went with their CronJob');
});
