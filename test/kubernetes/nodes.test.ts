import t from 'tap';
import { commandsOf, JOBS, KubernetesSite } from '../support/kubernetes-site.ts';
import { withoutKubernetes } from '../support/kubernetes.ts';

// Nodes that die, attempts that end late, workers that cannot end themselves.

const skip = withoutKubernetes();
if (skip !== false) {
  t.plan(0, skip);
  process.exit();
}

const CRON = 'etcd-snapshot-azure-blob-job';
const NAMESPACE = ['--namespace', 'kube-system'];
const TROUBLESHOOTING = commandsOf('docs/troubleshooting.md', 'Troubleshooting in Kubernetes');
const site = await KubernetesSite.start(['m1', 'm2']);
const { kubernetes } = site;
t.teardown(async () => site.stop());
site.writeSecret('etcd-snapshot-secrets.txt', site.variables('nodes'));
const [, secret = '', apply = ''] = commandsOf('README.md', 'Quick start');
await site.shell(secret);
await site.shell(apply);

/** The scheduled run that hangs in its upload, and its node. */
async function hangingRun(): Promise<{ job: string; node: string; pod: string }> {
  let job = '';
  await site.eventually('a scheduled run', async () => {
    job = (await site.jobsOf(CRON)).at(-1) ?? '';
    return job !== '';
  });
  const { metadata, spec } = await site.running(job);
  await site.eventually('it uploads', async () => site.waiting() > 0);
  return { job, node: spec.nodeName, pod: metadata.name };
}

async function eventsSay(reason: string): Promise<boolean> {
  const events = await kubernetes.get(`/api/v1/namespaces/kube-system/events?fieldSelector=reason%3D${reason}`);
  return events.items.length > 0;
}

t.test('a node dies during a run: the next run replaces it, and backups go on', async (t) => {
  const release = site.hold();
  await site.patch('cronjob', CRON, { spec: { schedule: '* * * * *' } });
  const { job, node } = await hangingRun();
  await kubernetes.node(node).signalKubelet('STOP');
  release();
  let next = '';
  await site.eventually('a later run on the other node', async () => {
    const jobs = (await site.jobsOf(CRON)).filter((name) => name > job);
    for (const name of jobs) {
      const pods = await site.podsOf(name);
      if (pods.some(({ spec, status }) => status.phase === 'Succeeded' && spec.nodeName !== node)) next = name;
    }
    return next !== '';
  });
  t.match(await site.outcome(next), { succeeded: true });
  t.notOk((await site.jobsOf(CRON)).includes(job), 'the Job that could not end is gone');
  t.notOk(await eventsSay('JobAlreadyActive'));

  // Nothing but the schedule is left to the test below.
  await site.patch('cronjob', CRON, { spec: { suspend: true } });
  await kubernetes.node(node).signalKubelet('CONT');
  await site.eventually('the node is back', async () => kubernetes.isReady(node));
  await kubernetes.mustKubectl('delete', 'jobs', ...NAMESPACE, '--all');
});

t.test('with Forbid, as it was, no further run starts; the commands of the docs release it', async (t) => {
  const release = site.hold();
  const pod = { activeDeadlineSeconds: 600 };
  const jobTemplate = { spec: { activeDeadlineSeconds: 45, template: { spec: pod } } };
  await site.patch('cronjob', CRON, { spec: { concurrencyPolicy: 'Forbid', suspend: false, jobTemplate } });
  const { job, node, pod: name } = await hangingRun();
  await kubernetes.node(node).signalKubelet('STOP');
  release();
  await site.eventually('runs are refused', async () => eventsSay('JobAlreadyActive'));
  const { status } = await kubernetes.get(`${JOBS}/${job}`);
  t.match(status, { conditions: [{ type: 'FailureTarget' }] }, 'its deadline is over, but it does not end');
  t.strictSame(await site.jobsOf(CRON), [job]);

  const [show = '', release2 = ''] =
    /^(kubectl get pods .*\n)(kubectl delete pod .*\n)$/
      .exec(TROUBLESHOOTING.find((block) => block.includes('--force')) ?? '')
      ?.slice(1) ?? [];
  t.match((await site.shell(show)).stdout, new RegExp(`^${name} .* Terminating .* ${node} `, 'm'));
  await site.shell(release2.replace('NAME', name));
  t.match(await site.outcome(job), { succeeded: false, reason: 'DeadlineExceeded' });
  await site.eventually('the next run', async () => (await site.jobsOf(CRON)).length > 1);
  const next = (await site.jobsOf(CRON)).at(-1) ?? '';
  t.match(await site.outcome(next), { succeeded: true });
  await site.patch('cronjob', CRON, { spec: { suspend: true } });
  await kubernetes.node(node).signalKubelet('CONT');
  await site.eventually('the node is back', async () => kubernetes.isReady(node));
});

t.test('attempts that end late: each leaves its log and its message', async (t) => {
  const release = site.hold();
  // The times of the manifests, for a shorter one: T, T + 150, and six times that; one retry instead of four.
  await site.startJob('late', CRON, {
    env: { SNAPSHOT_TIMEOUT: '40' },
    job: { backoffLimit: 1, activeDeadlineSeconds: 6 * 190 + 180 },
    pod: { activeDeadlineSeconds: 190 },
  });
  const outcome = await site.outcome('late');
  release();
  t.match(outcome, { succeeded: false, reason: 'BackoffLimitExceeded' });
  t.equal(outcome.pods.length, 2);
  const { stdout } = await site.shell(
    (TROUBLESHOOTING.find((block) => block.includes('--prefix')) ?? '').replace('NAME', 'late'),
  );
  for (const { name, message, code } of outcome.pods) {
    t.match(message, /40 s/, 'the message names the time that is over');
    t.ok((code ?? 0) > 0);
    const lines = stdout.split('\n').filter((line) => line.startsWith(`[pod/${name}/`));
    t.match(lines.at(-1), /40 s/, `${name}: the end of its log is there`);
  }
});

t.test('a worker that cannot end itself: the deadline of its pod does, and the next attempt succeeds', async (t) => {
  const release = site.hold();
  await site.startJob('stopped', CRON, {
    job: { backoffLimit: 1, activeDeadlineSeconds: 600 },
    pod: { activeDeadlineSeconds: 30, terminationGracePeriodSeconds: 2 },
  });
  const { spec, status } = await site.running('stopped');
  await site.eventually('it uploads', async () => site.waiting() > 0);
  const id = status.containerStatuses[0].containerID.replace('containerd://', '');
  const inspected = await kubernetes.node(spec.nodeName).mustRun('ctr', '--namespace', 'k8s.io', 'task', 'list');
  const pid = new RegExp(`^${id}\\s+(\\d+)`, 'm').exec(inspected)?.[1] ?? '';
  await kubernetes.node(spec.nodeName).mustRun('kill', '-STOP', pid);
  await site.eventually('its deadline', async () => (await site.podsOf('stopped'))[0]?.status.phase === 'Failed');
  release();
  const outcome = await site.outcome('stopped');
  t.match(outcome, { succeeded: true, pods: [{ reason: 'DeadlineExceeded' }, { code: 0 }] });
  const { stdout } = await site.shell(`kubectl logs ${outcome.pods[0]?.name} --namespace kube-system`);
  t.match(stdout, /"streaming|stream/, 'the log of the first is there');
});
