import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import t from 'tap';
import { parseAllDocuments } from 'yaml';
import { startBackupSite } from '../support/backup-site.ts';
import { jsonOf } from '../support/command.ts';
import { findJudge, without } from '../support/judges.ts';
import { build, MANIFESTS } from '../support/manifests.ts';
import { mustRun, type Variables } from '../support/process.ts';
import { nextSecond } from '../support/until.ts';
import { MAIN } from '../support/worker.ts';

/* Every command of docs/operations.md about kept snapshots, as it is written there. */

interface Listed {
  readonly name: string;
  readonly kept?: { readonly until: string | null; readonly note: string | null };
}

/** What names on the page have for the time. */
const EXAMPLE = 'kubernetes-etcd-snapshot_20260102_030405';
const WRAPPER = `#!/bin/sh\nexec '${process.execPath}' -- '${MAIN}'`;

/** Runs the arguments that follow the name of an image, as a container would. */
const DOCKER = '#!/bin/sh\nwhile [ "${1#registry}" = "$1" ]; do shift; done\nshift\nexec etcd-snapshot "$@"\n';

/** Has the Job of the CronJob, and runs what is applied, when it is waited for. */
const KUBECTL = `#!/bin/sh
case "$*" in
  *" create job "*) cat "$HOST_DIR/job.json" ;;
  apply*) cat > "$HOST_DIR/applied.json" ;;
  *" wait "*) jq -r '.spec.template.spec.containers[0].args | @sh' "$HOST_DIR/applied.json" | xargs etcd-snapshot ;;
esac
`;

const skip = without('jq') || (findJudge('kubectl') === undefined ? 'there is no kubectl here' : false);
const { dir, cluster, variablesOf } = await startBackupSite(t, 'keep-docs');
await cluster.fill(50, 100);
const page = await readFile(join(import.meta.dirname, '..', '..', 'docs', 'operations.md'), 'utf8');

function blocksOf(heading: string): string[] {
  const from = page.indexOf(`\n## ${heading}\n`);
  const text = page.slice(from, page.indexOf('\n## ', from + 1));
  return [...text.matchAll(/^```sh\n([^]*?)^```$/gm)].map(([, commands = '']) => commands);
}

const bin = join(dir, 'bin');
await mkdir(bin);
for (const [name, text] of Object.entries({ 'etcd-snapshot': `${WRAPPER} "$@"\n`, docker: DOCKER, kubectl: KUBECTL })) {
  await writeFile(join(bin, name), text);
  await chmod(join(bin, name), 0o755);
}

async function shell(commands: string, variables: Variables): Promise<string> {
  const path = [bin, variables['PATH'], '/usr/bin', '/bin'].join(delimiter);
  return mustRun('sh', ['-e', '-c', commands], { ...variables, PATH: path, HOST_DIR: dir });
}

t.test('kept snapshots', async (t) => {
  const variables = variablesOf('kept');
  const { name } = await jsonOf<Listed>(['backup'], variables);
  await nextSecond();
  const [commands = ''] = blocksOf('Kept snapshots');
  const stdout = await shell(commands.replaceAll(EXAMPLE, name.replace('.db', '')), variables);
  t.match(stdout, new RegExp(`${name} is kept until [-\\d]+: before 1\\.36\\.\n${name} is released`));
  t.match(await jsonOf<Listed[]>(['list'], variables), [{ kept: { note: 'before 1.36' } }, { name, kept: undefined }]);
});

t.test('before an upgrade: on a node, and with the CronJob', { skip }, async (t) => {
  const variables = variablesOf('upgrade');
  const [kubeadm = '', rke2 = '', kubernetes = '', ...others] = blocksOf('Before an upgrade');
  t.strictSame(others, []);
  const objects = parseAllDocuments((await build(MANIFESTS)).yaml).map((document) => document.toJS() as object);
  const cronJob = objects.find((object) => 'kind' in object && object.kind === 'CronJob') as {
    metadata: { name: string };
    spec: { jobTemplate: object };
  };
  t.match(kubernetes, `--from cronjob/${cronJob.metadata.name} `);
  await writeFile(join(dir, 'job.json'), JSON.stringify(cronJob.spec.jobTemplate));
  for (const commands of [kubeadm, rke2, kubernetes]) {
    t.match(await shell(commands, variables), 'uploaded successfully', commands);
    await nextSecond();
  }
  const until = new RegExp(`^${new Date(Date.now() + 90 * 86_400_000).toISOString().slice(0, 10)}T`);
  t.match(
    await jsonOf<Listed[]>(['list'], variables),
    ['before 1.36', 'before RKE2 upgrade', 'before kubeadm upgrade'].map((note) => ({ kept: { until, note } })),
  );
});
