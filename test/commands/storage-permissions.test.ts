import { join } from 'node:path';
import {
  ContainerSASPermissions,
  generateBlobSASQueryParameters,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import t, { type Test } from 'tap';
import { Azurite } from '../support/azurite.ts';
import { putSnapshot } from '../support/catalogue.ts';
import { type Output, runCommand } from '../support/command.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { type Variables, temporaryFolder } from '../support/process.ts';
import { nextSecond } from '../support/until.ts';
import { errorOf, runWorker } from '../support/worker.ts';

const dir = temporaryFolder('rights');
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => Promise.all([cluster.stop(), azurite.stop()]));
t.jobs = 2;

/** The worker's variables with a SAS that has these rights on this container, and none beyond it. */
function withRights(container: string, rights: string): Variables {
  const sas = generateBlobSASQueryParameters(
    {
      containerName: container,
      permissions: ContainerSASPermissions.parse(rights),
      expiresOn: new Date(Date.now() + 3_600_000),
    },
    new StorageSharedKeyCredential(azurite.account, azurite.key),
  );
  return {
    ...cluster.variables,
    ...azurite.variables(container),
    SNAPSHOT_AZURE_ACCOUNT_KEY: '',
    SNAPSHOT_AZURE_SAS_TOKEN: sas.toString(),
    SNAPSHOT_LOG_LEVEL: 'debug',
  };
}

/** A backup with these rights, which must end with this code. */
async function backup(t: Test, variables: Variables, code: number): Promise<Output & { json: unknown }> {
  const finished = await runCommand(['--json'], variables);
  t.equal(finished.code, code, finished.stderr);
  const signature = /sig=([^&]+)/.exec(variables['SNAPSHOT_AZURE_SAS_TOKEN'] ?? '')?.[1] ?? 'none';
  t.notOk(`${finished.stdout}${finished.stderr}`.includes(signature), 'no secret in any output');
  return { ...finished, json: finished.stdout === '' ? undefined : JSON.parse(finished.stdout) };
}

t.test('an existing container needs no permission to create it', async (t) => {
  await azurite.container('there').create();
  const variables = { ...withRights('there', 'rcwdl'), SNAPSHOT_KEEP_LAST: '1' };
  t.match((await backup(t, variables, 0)).json, { readBack: 'done', retention: { state: 'applied', kept: 1 } });
  await nextSecond();
  t.match((await backup(t, variables, 0)).json, { retention: { kept: 1, removed: { length: 1 } } });
  const missing = await backup(t, withRights('missing', 'rcwdl'), 12);
  t.match(
    errorOf(missing).message,
    /Container missing does not exist in account testaccount, and the SAS token has no permission to create it/,
  );
});

t.test('with write permissions only the backup is stored, and cannot be read back', async (t) => {
  await azurite.container('only-write').create();
  for (const rights of ['w', 'cw']) {
    const full = await backup(t, { ...withRights('only-write', rights), SNAPSHOT_BLOB_PREFIX: `${rights}/` }, 12);
    t.match(full.json, { readBack: 'not permitted', retention: { state: 'held', kept: null, removed: [] } });
    t.match(errorOf(full), {
      message: /^The backup \S+ was stored, but not read back\. Reading it back is not permitted/,
      hint: /permission to read, or set SNAPSHOT_READ_BACK=off/,
    });
  }
  const variables = withRights('only-write', 'w');
  const person = await runWorker([], { ...variables, SNAPSHOT_BLOB_PREFIX: 'person/' });
  t.equal(person.code, 12);
  t.match(person.stdout, /TOTAL SIZE/);
  t.notMatch(person.stdout, 'successfully');

  const off = { ...variables, SNAPSHOT_READ_BACK: 'off' };
  const unread = await backup(t, { ...off, SNAPSHOT_BLOB_PREFIX: 'off/' }, 0);
  t.match(unread.json, {
    readBack: 'off',
    retention: { state: 'off', kept: null },
    findings: [/was not compared with earlier ones/],
  });
  const ruled = await backup(t, { ...off, SNAPSHOT_BLOB_PREFIX: 'ruled/', SNAPSHOT_KEEP_LAST: '1' }, 3);
  t.match(ruled.json, { readBack: 'off', retention: { state: 'incomplete', kept: null, removed: [] } });
  t.match(errorOf(ruled).message, /is stored, but retention is incomplete: .* \(failed while listing the container\)/);
  t.equal((await azurite.names('only-write')).length, 5, 'all of them are stored');
});

t.test('without the permission to list the backup is read back, and compared with nothing', async (t) => {
  await azurite.container('no-list').create();
  const variables = withRights('no-list', 'rcwd');
  t.match((await backup(t, variables, 0)).json, {
    readBack: 'done',
    findings: [/was not compared with earlier ones/],
  });
  const [name = ''] = await azurite.names('no-list');
  t.equal((await runCommand(['verify', name], variables)).code, 0);
  t.match((await backup(t, { ...variables, SNAPSHOT_KEEP_DAILY: '1' }, 3)).json, {
    retention: { state: 'incomplete' },
  });
});

t.test('without the permission to delete everything stays, and the backup is stored', async (t) => {
  await azurite.container('no-delete').create();
  const variables = { ...withRights('no-delete', 'rcwl'), SNAPSHOT_KEEP_LAST: '1' };
  t.match((await backup(t, variables, 0)).json, { retention: { state: 'applied', kept: 1 } });
  await nextSecond();
  const second = await backup(t, variables, 3);
  t.match(second.json, { readBack: 'done', retention: { state: 'incomplete', kept: 2, removed: [] } });
  t.match(errorOf(second).message, /stored and read back, but retention is incomplete: .* \(failed while deleting /);
});

t.test('with read permissions only list and prune work, and backup is refused', async (t) => {
  await azurite.container('no-write').create();
  await putSnapshot(azurite.container('no-write'), new Date('2026-01-01T00:00:00Z'));
  const variables = { ...withRights('no-write', 'rl'), SNAPSHOT_KEEP_LAST: '1' };
  for (const [command, kept] of [
    ['list', / keep$/m],
    ['prune', / keep: newest, last 1$/m],
  ] as const) {
    const finished = await runCommand([command], variables);
    t.equal(finished.code, 0, finished.stderr);
    t.match(finished.stdout, kept);
  }
  const refused = await backup(t, variables, 2);
  t.match(errorOf(refused).message, /SAS_TOKEN grants no permission to write/);
});
