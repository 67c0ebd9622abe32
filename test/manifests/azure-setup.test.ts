import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import {
  HOLDER,
  IDENTITY,
  PLACE,
  PRUNER,
  REPORT,
  runWithAzure,
  setUp,
  type SetUp,
  WRITER,
} from '../support/azure-cli.ts';
import { docsPage } from '../support/docs-page.ts';

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
    'legal-hold': [`${BLOBS}/read`, `${BLOBS}/add/action`, `${BLOBS}/immutableStorage/runAsSuperUser/action`],
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

/** The role, the identity and the container of each assignment. */
function assigned(done: SetUp): string[] {
  return called(done, 'role assignment create').map((call) => {
    const [, role, id] = /--role etcd-snapshot (\S+) \S+ --assignee-object-id (\S+)/.exec(call) ?? [];
    return `${role} ${id} ${/containers\/(\S+)$/.exec(call)?.[1]}`;
  });
}

t.test('the identity of the report reads snapshots, and writes to a container of its own only', async (t) => {
  const done = await setUp([...PLACE, '--writer', WRITER, '--report', REPORT]);
  t.equal(done.code, 0, done.stderr);
  t.match(called(done, 'storage container-rm create'), [/--name my-cluster /, /--name my-cluster-reports /]);
  t.strictSame(assigned(done), [
    `writer ${WRITER} my-cluster`,
    `reader ${REPORT} my-cluster`,
    `writer ${REPORT} my-cluster-reports`,
  ]);
  t.equal(called(done, 'role definition create').length, 2, 'each role is defined once');
});

t.test('a second place: the identity of the copy reads the first, and writes to the second', async (t) => {
  const first = await setUp([...PLACE, '--writer', WRITER, '--reader', IDENTITY]);
  const second = await setUp([...PLACE, '--account', 'second', '--writer', IDENTITY]);
  t.strictSame(assigned(first), [`writer ${WRITER} my-cluster`, `reader ${IDENTITY} my-cluster`]);
  t.strictSame(assigned(second), [`writer ${IDENTITY} my-cluster`]);
  t.match(called(second, 'role assignment create'), [/storageAccounts\/second\//]);
});

t.test('the commands of docs/azure.md for the identities of the jobs', async (t) => {
  const [places = '', identity = ''] = docsPage('azure.md').blocksOf('The identities of copy, report and drill');
  const ids = { BACKUP: WRITER, PRUNE: PRUNER, COPY: HOLDER, REPORT };
  const done = await runWithAzure(['-euc', places], {}, ids);
  t.equal(done.code, 0, done.stderr);
  t.strictSame(assigned(done), [
    `writer ${WRITER} my-cluster`,
    `pruner ${PRUNER} my-cluster`,
    `reader ${HOLDER} my-cluster`,
    `reader ${REPORT} my-cluster`,
    `writer ${REPORT} my-cluster-reports`,
    `writer ${HOLDER} my-cluster`,
  ]);
  t.match(called(done, 'role assignment create').at(-1), 'storageAccounts/secondbackups/');
  const made = await runWithAzure(['-euc', `${identity}echo "$REPORT"`], {}, { ISSUER: 'https://issuer.example/' });
  t.equal(made.code, 0, made.stderr);
  t.match(made.stdout, new RegExp(`${IDENTITY}\n$`));
  t.match(called(made, 'identity federated-credential create'), [/--subject \S+:etcd-snapshot-report /]);
});

t.test('legal holds: a role of its own, in a container that supports them', async (t) => {
  const args = [...PLACE, '--writer', WRITER, '--legal-hold', HOLDER];
  const done = await setUp(args);
  t.equal(done.code, 0, done.stderr);
  t.equal(done.stderr, '');
  t.match(called(done, 'storage container-rm create'), [/--name my-cluster --enable-vlw true /]);
  t.strictSame(assigned(done), [`writer ${WRITER} my-cluster`, `legal-hold ${HOLDER} my-cluster`]);
  const old = await setUp(args, { versions: false });
  t.equal(old.code, 0);
  t.match(old.stderr, /my-cluster was created without version-level immutability support/);
  const without = await setUp([...PLACE, '--writer', WRITER]);
  t.notMatch(called(without, 'storage container-rm create').join(), /vlw|reports/, 'off by default');
  t.strictSame(assigned(without), [`writer ${WRITER} my-cluster`]);
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
    [[...PLACE, ...writer, '--report', 'my-app'], /my-app is not an object id/],
    [[...PLACE, ...writer, '--container', 'a'.repeat(56), '--report', REPORT], /at most 55 characters/],
    [[...PLACE, ...writer, '--legal-hold', HOLDER, '--immutable-days', '9'], /cannot be combined/],
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
