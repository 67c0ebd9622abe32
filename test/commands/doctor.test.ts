import { join } from 'node:path';
import { ContainerSASPermissions } from '@azure/storage-blob';
import t, { type Test } from 'tap';
import { snapshotName } from '../../src/snapshot/snapshot-name.ts';
import { Azurite } from '../support/azurite.ts';
import { putSnapshot } from '../support/catalogue.ts';
import { makeAuthority } from '../support/certificates.ts';
import { type Output, runCommand } from '../support/command.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { freePort, temporaryFolder, type Variables } from '../support/process.ts';
import { errorOf, runWorker, withTools } from '../support/worker.ts';

interface Line {
  readonly check: string;
  readonly state: 'ok' | 'warn' | 'fail';
  readonly finding: string;
  readonly hint: string | null;
}

const dir = temporaryFolder('doctor');
const authority = await makeAuthority(join(dir, 'certs'));
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
t.jobs = 2;

async function ask(variables: Variables): Promise<{ end: Output; lines: Line[]; ok: boolean }> {
  const end = await runCommand(['doctor', '--json'], variables);
  const { checks, ok } = JSON.parse(end.stdout) as { checks: Line[]; ok: boolean };
  return { end, lines: checks, ok };
}

function states(lines: readonly Line[], check: string): string[] {
  return lines.filter((line) => line.check === check).map(({ state }) => state);
}

async function cluster(t: Test, name: string, size = 1, tools = findEtcd().at(-1)): Promise<EtcdCluster> {
  if (tools === undefined) throw new Error('no etcd');
  const made = await EtcdCluster.start({ tools, dir: join(dir, name), size, tls: authority });
  t.teardown(async () => made.stop());
  return made;
}

for (const tools of findEtcd()) {
  t.test(`all is well, etcd ${tools.version}`, async (t) => {
    const three = await cluster(t, tools.version, 3, tools);
    const container = `well-${tools.version.replaceAll('.', '-')}`;
    const spool = temporaryFolder('doctor-spool');
    const storage = { ...azurite.variables(container), SNAPSHOT_SPOOL_DIR: spool };
    const variables = { ...three.variables, ...storage, ...withTools(tools) };
    const before = await ask(variables);
    t.equal(before.end.code, 0, before.end.stderr);
    t.match(
      before.lines.find(({ check }) => check === 'storage'),
      { state: 'warn', finding: /does not exist yet/ },
    );

    t.equal((await runCommand([], variables)).code, 0);
    const undrilled = await ask(variables);
    t.match(
      undrilled.lines.filter(({ state }) => state !== 'ok'),
      [{ check: 'last drill', finding: /No drill has succeeded yet/ }],
    );
    t.equal((await runCommand(['drill'], variables)).code, 0);
    const { end, lines, ok } = await ask(variables);
    t.equal(end.code, 0, end.stderr);
    t.ok(ok);
    t.strictSame(
      lines.filter(({ state }) => state !== 'ok'),
      [],
    );
    t.equal(states(lines, 'endpoint').length, 3);
    t.equal(states(lines, 'clock').length, 4, 'each member, and Azure');
    t.match(lines.find(({ check }) => check === 'last drill')?.finding, /A drill restored .* \d+s ago, in /);
    t.match(lines.find(({ check }) => check === 'restore tool')?.finding, tools.version);
    for (const check of ['certificates', 'quorum', 'database', 'spool', 'list', 'write', 'read', 'delete'])
      t.ok(states(lines, check).length > 0, check);
    t.match(
      lines.find(({ check }) => check === 'database')?.finding,
      /^3\.[45]\./.test(tools.version) ? /default quota/ : /of a quota of 2.1 GB/,
    );
    t.match(
      lines.find(({ check }) => check === 'restore plan'),
      { state: 'ok', finding: /A plan can be made from the newest snapshot, for m1, m2, m3/ },
    );
    t.match(
      lines.find(({ check }) => check === 'newest snapshot'),
      { finding: /is \d+s old; usually .* every 6h/ },
    );
    t.equal((await azurite.names(container)).length, 2, 'the probe is gone; the note of the drill is there');
    const list = await runCommand(['list', '--json'], variables);
    t.equal((JSON.parse(list.stdout) as unknown[]).length, 1, 'and is no snapshot');
    const { stdout } = await runWorker(['doctor'], variables);
    t.match(
      stdout,
      /^STATE +CHECK +RESULT\nok +configuration +3 etcd endpoints, container well-[^]*\n\d+ ok, \d+ warnings?, 0 failures\n$/,
    );
  });
}

t.test('members that serve HTTP elsewhere, as those of k3s', async (t) => {
  const tools = findEtcd().find(({ version }) => !version.startsWith('3.4.'));
  if (tools === undefined) return void t.comment('etcd 3.4 cannot');
  const flags = ['--listen-client-http-urls', `https://127.0.0.1:${await freePort()}`];
  const one = await EtcdCluster.start({ tools, dir: join(dir, 'grpc-only'), tls: authority, flags });
  t.teardown(async () => one.stop());
  const variables = { ...one.variables, ...azurite.variables('grpc-only'), ...withTools(tools) };
  t.equal((await runCommand([], variables)).code, 0);
  const { end, lines } = await ask(variables);
  t.equal(end.code, 0, end.stderr);
  t.match(
    lines.find(({ check }) => check === 'clock'),
    { state: 'ok', finding: /serves gRPC only/ },
  );
});

t.test('what is wrong with etcd, and the worst of it in the exit code', async (t) => {
  const three = await cluster(t, 'ill', 3);
  const storage = azurite.variables('ill');
  await three.loseMember('m2');
  const one = await ask({ ...three.variables, ...storage });
  t.equal(one.end.code, 10, 'a configured endpoint does not answer');
  t.equal(one.lines.filter(({ check, state }) => check === 'endpoint' && state === 'fail').length, 1);
  t.match(
    one.lines.find(({ check }) => check === 'quorum'),
    { state: 'ok', finding: /one more failure stops/ },
  );
  t.match(
    one.lines.find(({ check }) => check === 'member'),
    { state: 'fail', finding: /m2 .* is unreachable/ },
  );

  const [first] = three.endpoints.split(',');
  const others = { ...three.variables, SNAPSHOT_ETCD_ENDPOINTS: first ?? '', ...storage };
  t.equal((await ask(others)).end.code, 20, 'all that are configured answer, but a member is missing');

  await three.stopMember('m3');
  const lost = await ask(others);
  t.equal(lost.end.code, 20);
  t.match(
    lost.lines.find(({ check }) => check === 'quorum'),
    { state: 'fail', finding: /quorum is lost/ },
  );

  const foreign = await makeAuthority(join(dir, 'foreign'), 'foreign');
  const mixed = { SNAPSHOT_ETCD_KEY_FILE: foreign.client.key };
  const certificates = await ask({ ...three.variables, ...mixed, ...storage });
  t.equal(certificates.end.code, 2);
  t.match(
    certificates.lines.find(({ check }) => check === 'certificates'),
    { state: 'fail', finding: /belong/ },
  );
  t.ok(states(certificates.lines, 'storage').length > 0, 'the other half is looked at all the same');

  const [oldest, ...later] = findEtcd();
  if (oldest !== undefined && later.length > 0) {
    const { lines } = await ask({ ...others, ...withTools(oldest) });
    t.match(
      lines.find(({ check }) => check === 'restore tool'),
      { state: 'warn', finding: /is too old for/ },
    );
  }

  const room = await ask({ ...others, SNAPSHOT_SPOOL_DIR: '/nowhere' });
  t.match(
    room.lines.find(({ check }) => check === 'spool'),
    { state: 'warn', finding: /ENOENT/ },
  );
});

t.test('each permission on its own', async (t) => {
  const single = await cluster(t, 'rights');
  const container = azurite.container('rights');
  await container.create();
  for (const [permissions, expected, code] of [
    ['rwdl', { list: 'ok', write: 'ok', read: 'ok', delete: 'ok' }, 0],
    ['rwl', { list: 'ok', write: 'ok', read: 'ok', delete: 'warn' }, 0],
    ['w', { list: 'fail', write: 'ok', read: 'fail', delete: 'warn' }, 12],
    ['rl', { list: 'ok', write: 'fail', read: 'ok', delete: 'warn' }, 12],
  ] as const) {
    const url = await container.generateSasUrl({
      permissions: ContainerSASPermissions.parse(permissions),
      expiresOn: new Date(Date.now() + 3_600_000),
    });
    const { end, lines } = await ask({
      ...single.variables,
      SNAPSHOT_AZURE_BLOB_ENDPOINT: azurite.url,
      SNAPSHOT_AZURE_CONTAINER_NAME: 'rights',
      SNAPSHOT_AZURE_SAS_TOKEN: new URL(url).search,
    });
    t.equal(end.code, code, permissions);
    const found = Object.fromEntries(Object.keys(expected).map((right) => [right, states(lines, right).join()]));
    t.strictSame(found, expected, permissions);
    t.strictSame(await azurite.names('rights'), [], 'nothing visible is left');
    t.notMatch(end.stdout + end.stderr, /sig=/);
  }
});

t.test('when no blob can be deleted, nothing is left behind', async (t) => {
  const single = await cluster(t, 'immutable');
  const container = azurite.container('immutable');
  await container.create();
  const all = async (): Promise<string[]> => {
    const names: string[] = [];
    for await (const { name } of container.listBlobsFlat({ includeUncommitedBlobs: true })) names.push(name);
    return names;
  };
  const exists = async ({ pathname }: URL): Promise<boolean> =>
    (await all()).includes(pathname.split('/').slice(3).join('/'));
  for (const code of ['BlobImmutableDueToPolicy', 'BlobImmutableDueToLegalHold']) {
    for (const protects of [exists, async () => true]) {
      const policy = await FaultProxy.start(azurite.url, async ({ method, url }) =>
        method === 'DELETE' && (await protects(url)) ? { status: 409, code } : 'pass',
      );
      t.teardown(async () => policy.stop());
      const storage = { ...azurite.variables('immutable'), SNAPSHOT_AZURE_BLOB_ENDPOINT: policy.url };
      const { end, lines } = await ask({ ...single.variables, ...storage });
      t.equal(end.code, 0, end.stderr);
      t.strictSame(states(lines, 'storage'), [], 'it could be looked at');
      for (const right of ['list', 'write', 'read', 'delete']) t.strictSame(states(lines, right), ['ok'], right);
      t.strictSame(await all(), [], 'neither a blob nor a block');
    }
  }
});

t.test('old snapshots, and a store that refuses everything', async (t) => {
  const single = await cluster(t, 'age');
  const variables = { ...single.variables, ...azurite.variables('age') };
  const { stdout } = await runCommand(['--json'], variables);
  const { name, clusterId } = JSON.parse(stdout) as { name: string; clusterId: string };
  const container = azurite.container('age');
  const original = container.getBlobClient(name);
  const { metadata = {} } = await original.getProperties();
  const bytes = await original.downloadToBuffer();
  await original.delete();
  for (const [hours, state, code] of [
    [10, 'warn', 0],
    [30, 'fail', 12],
  ] as const) {
    // Its name goes with its date.
    const takenAt = new Date(Date.now() - hours * 3_600_000);
    const old = container.getBlockBlobClient(snapshotName('', takenAt));
    await old.upload(bytes, bytes.length, { metadata: { ...metadata, takenat: takenAt.toISOString() } });
    // Of another cluster, and from the future.
    await putSnapshot(container, new Date(Date.now() - 3_600_000));
    const ahead = await putSnapshot(container, new Date('2036-01-01T00:00:00Z'), {
      metadata: { clusterid: clusterId },
    });
    const copy = await putSnapshot(container, takenAt, { name: 'copy.db', metadata: { clusterid: clusterId } });
    const { end, lines } = await ask(variables);
    const dates = {
      state: 'warn',
      finding: new RegExp(`^Snapshots that are dated in the future.*: 1, such as ${ahead}`),
    };
    t.match(
      lines.find(({ check }) => check === 'dates'),
      dates,
    );
    t.match(
      lines.find(({ check }) => check === 'records'),
      {
        state: 'warn',
        finding: new RegExp(`^Blobs that do not count as snapshots are left unchanged: 1, such as ${copy} \\(its name`),
      },
    );
    t.match(
      lines.find(({ check }) => check === 'newest snapshot'),
      { state, finding: new RegExp(`${hours}h old`) },
    );
    t.equal(end.code, code);
    await old.delete();
  }

  // Taken by hand within two minutes: that is no schedule.
  for (const seconds of [600, 590, 580, 570, 560]) {
    await putSnapshot(container, new Date(Date.now() - seconds * 1000), { metadata: { clusterid: clusterId } });
  }
  t.match(
    (await ask(variables)).lines.find(({ check }) => check === 'newest snapshot'),
    { state: 'ok', finding: /is 9m old; usually one is taken every 1h/ },
  );

  const refusing = await FaultProxy.start(azurite.url, () => ({ status: 403, code: 'AuthenticationFailed' }));
  t.teardown(async () => refusing.stop());
  const refused = await ask({ ...variables, SNAPSHOT_AZURE_BLOB_ENDPOINT: refusing.url });
  t.equal(refused.end.code, 12);
  t.match(
    refused.lines.find(({ check }) => check === 'storage'),
    { state: 'fail', finding: /refused the account key/ },
  );
  t.match(errorOf(refused.end), { message: /1 check failed, the first: Azure refused/ });
});

t.test('a newest snapshot that no plan can be made of', async (t) => {
  const one = await cluster(t, 'unplanned');
  const variables = { ...one.variables, ...azurite.variables('unplanned') };
  t.equal((await runCommand([], variables)).code, 0);
  const [name = ''] = await azurite.names('unplanned');
  const blob = azurite.container('unplanned').getBlobClient(name);
  const { metadata = {} } = await blob.getProperties();
  for (const members of ['[]', (metadata['members'] ?? '').replace('"m1"', '"m1; reboot"')]) {
    await blob.setMetadata({ ...metadata, members });
    const { end, lines } = await ask(variables);
    t.equal(end.code, 11, end.stderr);
    t.match(
      lines.find(({ check }) => check === 'restore plan'),
      { state: 'fail', finding: /no voting member has a name|name is not a member name/ },
    );
  }
});
