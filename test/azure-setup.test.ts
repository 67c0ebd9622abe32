import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { run, temporaryFolder } from './support/process.ts';

const AZURE = join(import.meta.dirname, '..', 'manifests', 'azure');
const BLOBS = 'Microsoft.Storage/storageAccounts/blobServices/containers/blobs';
const SETUP = join(AZURE, 'setup.sh');
const PLACE = ['group', 'westeurope', 'account', 'my-cluster'];

const dir = temporaryFolder('azure-setup');

/** The Azure CLI as far as the script sees it: knows one resource group and these roles, and notes what it is told. */
async function setUp(args: string[], roles: string): Promise<{ code: number | null; calls: string[]; stderr: string }> {
  const bin = join(dir, `bin-${roles.length}-${args.length}`);
  const notes = join(bin, 'notes');
  await mkdir(bin, { recursive: true });
  await writeFile(
    join(bin, 'az'),
    `#!/bin/sh
printf '%s\\n' "$*" | tr '\\n' ' ' >> ${notes}; echo >> ${notes}
case "$*" in
  'group create'*) echo /subscriptions/s/resourceGroups/group ;;
  'role definition list'*) echo '${roles}' ;;
esac`,
  );
  await chmod(join(bin, 'az'), 0o755);
  await writeFile(notes, '');
  const { code, stderr } = await run('bash', [SETUP, ...args], { PATH: `${bin}:${process.env['PATH'] ?? ''}` });
  return { code, stderr, calls: (await readFile(notes, 'utf8')).trim().split('\n') };
}

t.test('each role can do what its name says, and nothing else', async (t) => {
  for (const [role, actions] of Object.entries({
    writer: [`${BLOBS}/read`, `${BLOBS}/add/action`],
    pruner: [`${BLOBS}/read`, `${BLOBS}/delete`],
  })) {
    const definition = JSON.parse(await readFile(join(AZURE, `${role}-role.json`), 'utf8'));
    t.match(definition, { Name: `etcd-snapshot ${role}`, IsCustom: true, AssignableScopes: ['SCOPE'] });
    t.strictSame(definition.DataActions, actions);
    t.strictSame(definition.Actions, [], 'no keys, no settings');
  }
});

t.test('the roles are made in the resource group, and given in the container only', async (t) => {
  const { code, calls } = await setUp([...PLACE, 'writer-id'], '');
  t.equal(code, 0);
  t.ok(calls.some((call) => /^storage account create .*--min-tls-version TLS1_2 .*public-access false/.test(call)));
  const definition = calls.find((call) => call.startsWith('role definition create'));
  t.match(definition, /"AssignableScopes": \["\/subscriptions\/s\/resourceGroups\/group"\]/);
  const assignments = calls.filter((call) => call.startsWith('role assignment create'));
  t.equal(assignments.length, 1);
  t.match(
    assignments[0],
    /--role etcd-snapshot writer --assignee-object-id writer-id .*\/storageAccounts\/account\/blobServices\/default\/containers\/my-cluster /,
  );
});

t.test('run again, roles are brought up to date; a pruner gets a role of its own', async (t) => {
  const { code, calls } = await setUp([...PLACE, 'writer-id', 'pruner-id'], 'there');
  t.equal(code, 0);
  t.equal(calls.filter((call) => call.startsWith('role definition update')).length, 2);
  t.notOk(calls.some((call) => call.startsWith('role definition create')));
  t.ok(calls.some((call) => /role assignment create --role etcd-snapshot pruner .* pruner-id/.test(call)));
});

t.test('too few arguments change nothing', async (t) => {
  const { code, calls, stderr } = await setUp(PLACE, '');
  t.equal(code, 2);
  t.match(stderr, /^usage: /);
  t.strictSame(calls, ['']);
});
