import { chmodSync, chownSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority } from '../support/certificates.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { without } from '../support/judges.ts';
import { build, MANIFESTS, type Work, worksOf, buildOwn } from '../support/manifests.ts';
import { type Finished, folderOnDisk, mustRun, run, temporaryFolder } from '../support/process.ts';

// What the manifests grant is enough, tried with the image: each container runs with the user, the capabilities and the mounts
// that its manifest has, and nothing else.

const IMAGE = 'etcd-snapshot-azure-blob:test';
const SCRIPTS = join(import.meta.dirname, '..', '..', 'scripts');
/** The owner of etcd's data on a node. */
const ETCD = 999;

const skip = without('kubectl');
if (skip !== false) {
  t.plan(0, skip);
  process.exit();
}

const dir = temporaryFolder('manifests');
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
await mustRun(join(SCRIPTS, 'image-build.sh'), [IMAGE], { STAND_IN_BASE: '1' });
const authority = await makeAuthority(join(dir, 'certs'));
const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd'), tls: authority });
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => {
  await Promise.all([cluster.stop(), azurite.stop()]);
});
await cluster.fill(100, 1000);

const own =
  'kind: Kustomization\nresources: [MANIFESTS/overlays/aks-engine]\ncomponents: [MANIFESTS/components/drill]\n';
const works = worksOf(await buildOwn('own', own, {}));
const [backup, drill] = ['job', 'drill'].map((end) =>
  works.find(({ name }) => name === `etcd-snapshot-azure-blob-${end}`),
);
const [restore] = worksOf(await build(join(MANIFESTS, 'restore', 'aks-engine')));

/** Runs a container of the manifests. `mounts` says what of this machine stands for each of its volumes. */
async function inContainer(work: Work | undefined, mounts: Record<string, string>, args?: string[]): Promise<Finished> {
  if (work === undefined) throw new Error('there is no such object');
  const { pod, container } = work;
  const { runAsUser, runAsGroup } = pod.securityContext;
  const added = container.securityContext.capabilities.add ?? [];
  const secret = { SNAPSHOT_ETCD_ENDPOINTS: cluster.endpoints, ...azurite.variables('manifests') };
  const named = (container.env ?? []).map(({ name, value = cluster.members[0]?.name ?? '' }) => [name, value] as const);
  const env = { ...secret, ...Object.fromEntries(named) };
  const file = join(temporaryFolder('env'), 'env');
  writeFileSync(
    file,
    Object.entries(env)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(''),
  );
  const limit = container.resources.limits.memory?.replace('Mi', 'm').replace('Gi', 'g') ?? '';
  const words =
    args ??
    (container.args ?? []).map((word) =>
      word.replaceAll(/\$\((\w+)\)/g, (_, name: string) => Object.fromEntries(named)[name] ?? ''),
    );
  return run(join(SCRIPTS, 'image-run.sh'), [
    ...['--user', `${runAsUser}:${runAsGroup}`, '--memory', limit, '--memory-swap', limit, '--env-file', file],
    ...added.flatMap((capability) => ['--cap-add', capability]),
    ...(container.volumeMounts ?? []).flatMap(({ name, mountPath, readOnly }) => [
      '-v',
      `${mounts[name]}:${mountPath}${readOnly === true ? ':ro' : ''}`,
    ]),
    IMAGE,
    ...words,
  ]);
}

/** As the kubelet makes it. */
function emptyDir(): string {
  const folder = folderOnDisk('emptydir');
  chmodSync(folder, 0o777);
  return folder;
}

t.test('a backup as root without capabilities, a drill as nobody', async (t) => {
  const stored = await inContainer(backup, { certs: authority.dir, spool: emptyDir() });
  t.match(stored, { code: 0, stdout: /uploaded successfully!/ }, stored.stderr);
  const tmp = emptyDir();
  const drilled = await inContainer(drill, { tmp });
  t.match(drilled, { code: 0, stdout: /: restorable: .* with etcd/ }, drilled.stderr);
  t.strictSame(readdirSync(tmp), [], 'nothing is left');
  const refused = await inContainer(drill, { tmp: folderOnDisk('foreign') });
  t.equal(refused.code, 2, 'it is nobody indeed');
});

t.test("a restore in another user's directory, with the capabilities of the Job and not without them", async (t) => {
  const spool = emptyDir();
  const planning = ['restore', '--plan', '--layout', 'aks-engine', '--force', '--json'];
  const planned = await inContainer(backup, { certs: authority.dir, spool }, planning);
  t.equal(planned.code, 0, planned.stderr);
  const plan = temporaryFolder('plan');
  writeFileSync(join(plan, 'plan.json'), planned.stdout);
  const member = join(temporaryFolder('member'), 'etcd');
  writeFileSync(member, 'DAEMON_ARGS=--name "m1" --data-dir "/var/lib/etcddisk"\n');

  const data = folderOnDisk('etcddisk');
  mkdirSync(join(data, 'member'), { mode: 0o700 });
  for (const path of [join(data, 'member'), data]) chownSync(path, ETCD, ETCD);
  chmodSync(data, 0o700);

  const { add: capabilities = [] } = restore?.container.securityContext.capabilities ?? {};
  for (const missing of capabilities) {
    const work = JSON.parse(JSON.stringify(restore)) as Work;
    Object.assign(work.container.securityContext.capabilities, {
      add: capabilities.filter((name) => name !== missing),
    });
    const refused = await inContainer(work, { data, plan, member });
    t.match(refused, { code: 2, stderr: /permission denied/ }, `${missing} is needed`);
    t.strictSame(readdirSync(data), ['member'], 'nothing is left');
  }

  const restored = await inContainer(restore, { data, plan, member });
  t.match(restored, { code: 0, stdout: /Restored .* as member m1/ }, restored.stderr);
  for (const path of ['restored', 'restored/member', 'restored/member/snap/db']) {
    const { uid, gid } = statSync(join(data, path));
    t.strictSame([uid, gid], [ETCD, ETCD], path);
  }
  t.equal(statSync(join(data, 'restored')).mode & 0o777, 0o700);
  t.strictSame(readdirSync(data).toSorted(), ['member', 'restored']);
  const again = await inContainer(restore, { data, plan, member });
  t.match(again, { code: 0, stdout: /^Already done/m }, 'what is there is never overwritten');
});
