import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { IDENTITY, PLACE, PRUNER, setUp, type SetUp, WRITER } from '../support/azure-cli.ts';

const AZURE = join(import.meta.dirname, '..', '..', 'manifests', 'azure');
const BLOBS = 'Microsoft.Storage/storageAccounts/blobServices/containers/blobs';

/** The calls of one kind, each as a line. */
function called({ calls }: SetUp, command: string): string[] {
  return calls.map((call) => call.join(' ')).filter((call) => call.startsWith(`${command} `));
}

t.test('each role can do what its name says, and nothing else', async (t) => {
  for (const [role, actions] of Object.entries({
    writer: [`${BLOBS}/read`, `${BLOBS}/add/action`],
    pruner: [`${BLOBS}/read`, `${BLOBS}/delete`],
    reader: [`${BLOBS}/read`],
  })) {
    const definition = JSON.parse(await readFile(join(AZURE, `${role}-role.json`), 'utf8'));
    t.match(definition, { Name: `etcd-snapshot ${role} ACCOUNT`, IsCustom: true, AssignableScopes: ['SCOPE'] });
    t.strictSame(definition.DataActions, actions);
    t.strictSame(definition.Actions, [], 'no keys, no settings');
  }
});

t.test('the roles are made in the resource group, and given in the container only', async (t) => {
  const done = await setUp([...PLACE, '--writer', WRITER]);
  t.equal(done.code, 0, done.stderr);
  t.match(called(done, 'storage account create'), [/--min-tls-version TLS1_2 .*public-access false .*key-access true/]);
  t.match(called(done, 'storage account blob-service-properties update'), [
    /--delete-retention-days 14 .*--container-delete-retention-days 14 --enable-versioning true/,
  ]);
  t.match(called(done, 'storage account management-policy create'), [/--policy @.*\/lifecycle\.json/]);
  t.match(called(done, 'role definition create'), [
    /"AssignableScopes": \["\/subscriptions\/s\/resourceGroups\/group"\]/,
  ]);
  t.match(called(done, 'role definition create'), [/"Name": "etcd-snapshot writer account"/]);
  t.match(called(done, 'role assignment create'), [
    `--role etcd-snapshot writer account --assignee-object-id ${WRITER}`,
  ]);
  t.match(called(done, 'role assignment create'), [/\/account\/blobServices\/default\/containers\/my-cluster$/]);
  for (const [command, times] of Object.entries({
    'role definition create': 1,
    'role assignment create': 1,
    'storage container immutability-policy create': 0,
    'identity create': 0,
  })) {
    t.equal(called(done, command).length, times, command);
  }
});

t.test('run again, roles are brought up to date; a pruner and a reader get roles of their own', async (t) => {
  const args = ['--writer', WRITER, '--pruner', PRUNER, '--reader', IDENTITY];
  const done = await setUp([...PLACE, ...args], { roles: true });
  t.equal(done.code, 0, done.stderr);
  t.equal(called(done, 'role definition update').length, 3);
  t.strictSame(called(done, 'role definition create'), []);
  t.match(called(done, 'role assignment create'), [
    WRITER,
    `--role etcd-snapshot pruner account --assignee-object-id ${PRUNER}`,
    `--role etcd-snapshot reader account --assignee-object-id ${IDENTITY}`,
  ]);
});

t.test('an identity for the cluster, which is a writer and, if asked, a pruner', async (t) => {
  const issuer = 'https://issuer.example/x/';
  const done = await setUp([...PLACE, '--workload-identity', issuer, '--identity-may-prune', '--no-account-key']);
  t.equal(done.code, 0, done.stderr);
  t.match(done.stdout, /azure\.workload\.identity\/client-id: client-id\n/);
  t.match(called(done, 'identity federated-credential create'), [
    `--issuer ${issuer} --subject system:serviceaccount:kube-system:etcd-snapshot --audiences api://AzureADTokenExchange`,
  ]);
  t.match(called(done, 'role assignment create'), [
    `writer account --assignee-object-id ${IDENTITY}`,
    `pruner account --assignee-object-id ${IDENTITY}`,
  ]);
  t.match(called(done, 'storage account create'), [/--allow-shared-key-access false/]);
});

t.test('an immutability policy when asked for, and a locked one stays unchanged', async (t) => {
  const args = [...PLACE, '--writer', WRITER, '--immutable-days', '30'];
  for (const policy of [undefined, 'Unlocked'] as const) {
    const done = await setUp(args, policy === undefined ? {} : { policy });
    t.match(called(done, 'storage container immutability-policy create'), [/--container-name my-cluster --period 30 /]);
  }
  const done = await setUp(args, { policy: 'Locked' });
  t.equal(done.code, 0);
  t.match(done.stderr, /is locked and stays unchanged/);
  t.strictSame(called(done, 'storage container immutability-policy create'), []);
});

t.test('what is wrong is refused before anything is made', async (t) => {
  const writer = ['--writer', WRITER];
  for (const [args, said] of [
    [[], /--group is missing/],
    [[...PLACE.slice(0, 2), ...PLACE.slice(4), ...writer], /--location is missing/],
    [[...PLACE, '--account', 'My-Account', ...writer], /--account must be/],
    [[...PLACE, '--container', 'a--b', ...writer], /--container must be/],
    [[...PLACE, '--container', 'a'.repeat(64), ...writer], /--container must be/],
    [PLACE, /--writer ID or --workload-identity URL/],
    [[...PLACE, '--writer', 'my-app'], /my-app is not an object id/],
    [[...PLACE, '--workload-identity', 'http://issuer.example'], /https/],
    [[...PLACE, ...writer, '--subject', 'kube-system:etcd-snapshot'], /NAMESPACE:NAME/],
    [[...PLACE, ...writer, '--soft-delete-days', '366'], /1 to 365/],
    [[...PLACE, ...writer, '--immutable-days', '1y'], /1 to 146000/],
    [[...PLACE, ...writer, '--prune'], /--prune needs a value/],
    [[...PLACE, ...writer, '--prune', 'x'], /--prune is not an option/],
    [['group', 'westeurope'], /group is not an option/],
  ] as const) {
    const { code, calls, stderr } = await setUp(args);
    t.equal(code, 2, args.join(' '));
    t.match(stderr, said);
    t.strictSame(calls, []);
  }
  const { code, calls, stderr } = await setUp([...PLACE, ...writer], { loggedIn: false });
  t.equal(code, 2);
  t.match(stderr, /az login/);
  t.strictSame(calls, [['account', 'show', '--output', 'none']]);
});
