import { existsSync } from 'node:fs';
import { join } from 'node:path';
import {
  type ContainerClient,
  ContainerSASPermissions,
  generateBlobSASQueryParameters,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import t, { type Test } from 'tap';
import { Azurite } from '../support/azurite.ts';
import { nameOf, putSnapshot } from '../support/catalogue.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { type Fault, FaultProxy, type Seen } from '../support/fault-proxy.ts';
import { run, temporaryFolder, type Variables } from '../support/process.ts';
import { errorOf, MAIN } from '../support/worker.ts';

interface Listed {
  readonly name: string;
  readonly kept?: { readonly until: string | null; readonly note: string | null };
}

interface Pruned {
  readonly state: string;
  readonly removed: readonly string[];
  readonly removedMarks: readonly string[];
  readonly decisions: readonly { readonly name: string; readonly keep: boolean; readonly reasons: readonly string[] }[];
}

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const MARKS = 'etcd-snapshot-marks/';
const LAST = { SNAPSHOT_KEEP_LAST: '1' };

const dir = temporaryFolder('keep');
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
t.jobs = 2;
let containers = 0;

interface Place {
  readonly container: string;
  readonly client: ContainerClient;
  readonly variables: Variables;
  /** Of snapshots, the newest first. */
  readonly names: readonly string[];
}

/** A container with so many snapshots of this cluster, a day apart. */
async function fill(count: number, prefix = ''): Promise<Place> {
  const container = `keep-${++containers}`;
  const client = azurite.container(container);
  await client.create();
  const dates = Array.from({ length: count }, (_, index) => new Date(Date.now() - index * DAY - 60_000));
  const names = await Promise.all(dates.map(async (date) => putSnapshot(client, date, { prefix })));
  const variables = { ...azurite.variables(container), ...(prefix !== '' && { SNAPSHOT_BLOB_PREFIX: prefix }) };
  return { container, client, variables, names };
}

async function marksOf({ container }: Place): Promise<string[]> {
  return (await azurite.names(container)).filter((name) => name.includes(MARKS));
}

/** The same container through a proxy. */
async function through(
  t: Test,
  variables: Variables,
  rule: (seen: Seen) => Fault | Promise<Fault>,
): Promise<Variables> {
  const proxy = await FaultProxy.start(azurite.url, rule);
  t.teardown(async () => proxy.stop());
  return { ...variables, SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
}

const isListOfMarks = ({ method, url }: Seen): boolean =>
  method === 'GET' && (url.searchParams.get('prefix') ?? '').endsWith(MARKS);

function inDays(days: number): string {
  return new Date(Date.now() + days * DAY).toISOString().slice(0, 10);
}

t.test('keep, what list and prune say, and release', async (t) => {
  const place = await fill(4, 'prod/');
  const { variables, names } = place;
  const [, second = '', third = '', fourth = ''] = names;
  const kept = await jsonOf(
    ['keep', third.slice('prod/'.length), '--until', '90d', '--note', 'before 1.36'],
    variables,
  );
  t.match(kept, { name: third, kept: { until: new RegExp(`^${inDays(90)}`), note: 'before 1.36' }, legalHold: [] });
  await jsonOf(['keep', fourth, '--note', 'ein Grund: 升级'], variables);

  const listed = await jsonOf<Listed[]>(['list'], variables);
  t.strictSame(
    listed.map(({ kept }) => kept?.note),
    [undefined, undefined, 'before 1.36', 'ein Grund: 升级'],
  );
  const { stdout } = await runCommand(['list'], variables);
  t.match(stdout, `${third} is kept until ${inDays(90)}: before 1.36`);
  t.match(stdout, `${fourth} is kept: ein Grund: 升级`);
  t.notMatch(stdout, MARKS, 'no list shows the marks themselves');

  const pruned = await jsonOf<Pruned>(['prune'], { ...variables, ...LAST });
  t.strictSame(pruned.removed, [second]);
  t.strictSame(
    pruned.decisions.map(({ reasons }) => reasons[0]),
    ['newest', 'not kept by last 1', `kept until ${inDays(90)}: before 1.36`, 'kept: ein Grund: 升级'],
  );

  const until = inDays(3);
  t.match(await jsonOf(['keep', third, '--until', until], variables), {
    kept: { until: `${until}T23:59:59.999Z`, note: null },
  });
  t.match(await jsonOf(['release', fourth], variables), { name: fourth, released: true });
  t.match(await jsonOf(['release', fourth], variables), { released: false }, 'again');
  t.match((await runCommand(['release', third], variables)).stdout, /is released\. The rules of retention decide/);
  t.strictSame((await jsonOf<Pruned>(['prune'], { ...variables, ...LAST })).removed, [third, fourth]);
  t.equal((await marksOf(place)).length, 2, 'replaced marks are gone, the newest ones stay');
});

t.test('a mark expires by the clock of the service', async (t) => {
  const { variables, names } = await fill(2);
  await jsonOf(['keep', names[1] ?? '', '--until', '48h'], variables);
  for (const [hours, count] of [
    [47, 0],
    [49, 1],
  ] as const) {
    const later = await through(t, { ...variables, ...LAST }, () => ({ aheadMs: hours * HOUR }));
    const { decisions } = await jsonOf<Pruned>(['prune', '--dry-run'], later);
    t.equal(decisions.filter(({ keep }) => !keep).length, count, `${hours} hours later`);
  }
});

t.test('what cannot be kept', async (t) => {
  const place = await fill(1);
  const { variables, client, names } = place;
  await client.getBlockBlobClient('notes.txt').upload('notes', 5);
  const [name = ''] = names;
  const cases: [number, RegExp, ...string[]][] = [
    [
      13,
      /There is no snapshot kubernetes-etcd-snapshot_20000101_000000\.db in container/,
      'keep',
      nameOf(new Date('2000')),
    ],
    [13, /There is no snapshot/, 'release', nameOf(new Date('2000'))],
    [2, /notes\.txt is no snapshot, and retention never deletes it/, 'keep', 'notes.txt'],
    [2, /\.\/file\.db is a file\./, 'keep', './file.db'],
    [2, /until 2020-02-03: this date is in the past/, 'keep', name, '--until', '2020-02-03'],
    [2, /--until 2027-02-30 is neither a time such as 90d nor a date/, 'keep', name, '--until', '2027-02-30'],
    [2, /--until 90 is neither/, 'keep', name, '--until', '90'],
    [2, /--until 1y is neither/, 'keep', name, '--until', '1y'],
    [2, /--note must have 1 to 200 characters, and no control/, 'keep', name, '--note', 'x'.repeat(201)],
    [2, /--note must have/, 'keep', name, '--note', 'a\u001b[31mb'],
    [2, /--note must have/, 'keep', name, '--note', ' '],
    [2, /--note is given without --keep/, 'backup', '--note', 'alone'],
    [2, /--keep 90x is neither/, 'backup', '--keep=90x'],
    [2, /--keep is empty/, 'backup', '--keep='],
  ];
  for (const [code, message, ...args] of cases) {
    const etcd = { SNAPSHOT_ETCD_ENDPOINTS: 'http://127.0.0.1:9' };
    const finished = await runCommand(args, { ...variables, ...etcd });
    t.equal(finished.code, code, args.join(' '));
    t.match(errorOf(finished).message, message);
  }
  t.strictSame(await marksOf(place), []);
});

t.test('a mark that arrives between the plan and the deletion counts', async (t) => {
  const place = await fill(3);
  const [, second = '', third = ''] = place.names;
  let lists = 0;
  const variables = await through(t, place.variables, async (seen): Promise<Fault> => {
    if (isListOfMarks(seen) && ++lists === 1) await jsonOf(['keep', third, '--note', 'just in time'], place.variables);
    return 'pass';
  });
  const pruned = await jsonOf<Pruned>(['prune'], { ...variables, ...LAST });
  t.equal(lists, 1, 'one more list');
  t.strictSame(pruned.removed, [second]);
  t.match(pruned.decisions[2], { name: third, keep: true, reasons: ['kept: just in time'] });
});

t.test('where marks cannot be read nothing is deleted', async (t) => {
  const place = await fill(3);
  const variables = await through(t, place.variables, (seen) =>
    isListOfMarks(seen) ? { status: 403, code: 'AuthorizationPermissionMismatch' } : 'pass',
  );
  const finished = await runCommand(['prune', '--json'], { ...variables, ...LAST });
  t.equal(finished.code, 3);
  t.match(errorOf(finished).message, /^Retention is incomplete: .* \(failed while listing etcd-snapshot-marks\/\)/);
  t.match(JSON.parse(finished.stdout), { state: 'incomplete', removed: [], removedMarks: [] });
  t.equal((await azurite.names(place.container)).length, 3);
});

t.test('without marks retention lists once more, and only where it deletes', async (t) => {
  const place = await fill(30);
  let lists = 0;
  const variables = await through(t, place.variables, (seen) => {
    if (isListOfMarks(seen)) lists++;
    return 'pass';
  });
  await jsonOf(['prune'], { ...variables, SNAPSHOT_KEEP_LAST: '29' });
  t.equal(lists, 1);
  await jsonOf(['prune'], { ...variables, SNAPSHOT_KEEP_LAST: '29' });
  t.equal(lists, 1);
  await jsonOf(['prune'], { ...variables, SNAPSHOT_KEEP_LAST: '3' });
  t.equal(lists, 3, 'again after 25 deletions');
});

t.test('a snapshot that is deleted while it is marked', async (t) => {
  const place = await fill(2);
  const [, second = ''] = place.names;
  const variables = await through(t, place.variables, async ({ method, url }): Promise<Fault> => {
    if (method === 'PUT' && url.pathname.includes(MARKS)) await place.client.deleteBlob(second);
    return 'pass';
  });
  const finished = await runCommand(['keep', second], variables);
  t.equal(finished.code, 13);
  t.match(errorOf(finished).message, `${second} was deleted while it was marked.`);
});

t.test(
  'two hosts with different clocks: the clock of the service counts',
  { skip: !existsSync('/usr/bin/faketime') },
  async (t) => {
    const place = await fill(2);
    const [, second = ''] = place.names;
    const at = async (offset: string, ...args: string[]): Promise<void> => {
      const command = [offset, process.execPath, '--', MAIN, ...args];
      const { code, stderr } = await run('faketime', ['-f', ...command], place.variables);
      t.equal(code, 0, stderr);
    };
    const prune = async (): Promise<readonly string[]> =>
      (await jsonOf<Pruned>(['prune', '--dry-run'], { ...place.variables, ...LAST })).decisions[1]?.reasons ?? [];
    await at('+10m', 'keep', second, '--until', '2d');
    await at('-10m', 'release', second);
    t.strictSame(await prune(), ['not kept by last 1']);
    await at('-10m', 'keep', second, '--until', '2d', '--note', 'by the slow one');
    t.match(await prune(), [/: by the slow one$/]);
    await at('+3d', 'list');
    const command = ['+3d', process.execPath, '--', MAIN, 'prune', '--dry-run', '--json'];
    const { stdout } = await run('faketime', ['-f', ...command], { ...place.variables, ...LAST });
    t.match((JSON.parse(stdout) as Pruned).decisions[1]?.reasons, [/: by the slow one$/], 'it has not expired');
  },
);

t.test('somebody who can only add and read blobs can mark, also again', async (t) => {
  const place = await fill(2);
  const [, second = ''] = place.names;
  const sas = generateBlobSASQueryParameters(
    {
      containerName: place.container,
      permissions: ContainerSASPermissions.parse('rcl'),
      expiresOn: new Date(Date.now() + 3_600_000),
    },
    new StorageSharedKeyCredential(azurite.account, azurite.key),
  );
  const variables = { ...place.variables, SNAPSHOT_AZURE_ACCOUNT_KEY: '', SNAPSHOT_AZURE_SAS_TOKEN: sas.toString() };
  for (const command of ['keep', 'release', 'keep']) await jsonOf([command, second], variables);
  t.equal((await marksOf(place)).length, 3);
  t.match(await jsonOf<Listed[]>(['list'], variables), [{}, { kept: { until: null, note: null } }]);
  t.match(await jsonOf(['prune'], { ...variables, ...LAST }), { removed: [], removedMarks: [] });
  t.equal((await marksOf(place)).length, 3, 'what may not be deleted stays, and is no failure');
});

t.test('a lost answer stores one mark', async (t) => {
  const place = await fill(1);
  const variables = await through(t, place.variables, ({ method, url, index }) =>
    method === 'PUT' && url.pathname.includes(MARKS) && index === 0 ? 'lose-answer' : 'pass',
  );
  await jsonOf(['keep', place.names[0] ?? ''], variables);
  t.equal((await marksOf(place)).length, 1);
});

t.test('with verification keys only signed marks count', async (t) => {
  await jsonOf(['keygen', join(dir, 'keys')], {});
  const place = await fill(1);
  const { client, variables } = place;
  const [name = ''] = place.names;
  const signing = { SNAPSHOT_SIGNING_KEY_FILE: join(dir, 'keys', 'signing.pem') };
  const verifying = { SNAPSHOT_VERIFICATION_KEYS_FILE: join(dir, 'keys', 'verification.pem') };
  const [mark = ''] = await jsonOf(['keep', name], { ...variables, ...signing }).then(async () => marksOf(place));
  t.match((await client.getBlobClient(mark).getProperties()).metadata, { what: 'keep', signature: /^v1:/, keyid: /./ });
  const refused = await runCommand(['keep', name], { ...variables, ...verifying });
  t.equal(refused.code, 2);
  t.match(errorOf(refused).message, /SNAPSHOT_SIGNING_KEY_FILE is not set/);

  await jsonOf(['release', name], variables);
  t.match(await jsonOf<Listed[]>(['list'], variables), [{ kept: undefined }], 'without keys everything counts');
  const required = { ...variables, ...verifying };
  // The snapshot itself is not signed here, which does not matter for its marks.
  t.match(await jsonOf<Listed[]>(['list'], required), [{ kept: { until: null } }], 'the release does not count');

  const { metadata = {} } = await client.getBlobClient(mark).getProperties();
  const forged = { ...metadata, what: 'release', at: new Date(Date.now() + 1000).toISOString() };
  await client.getBlockBlobClient(`${MARKS}forged.json`).upload('', 0, { metadata: forged });
  t.match(await jsonOf<Listed[]>(['list'], required), [{ kept: { until: null } }]);
  await client.getBlockBlobClient(`${MARKS}copied.json`).upload('', 0, { metadata });
  await client.deleteBlob(mark);
  t.match(await jsonOf<Listed[]>(['list'], required), [{ kept: undefined }], 'a signature is for one name');
});

t.test('prune removes marks of snapshots that are gone, after an hour', async (t) => {
  const place = await fill(1);
  const gone = nameOf(new Date('2026-01-02T03:04:05Z'));
  const metadata = { at: '2026-01-02T04:00:00.000Z', snapshot: gone, what: 'keep' };
  const { client } = place;
  await client.getBlockBlobClient(`${MARKS}gone.json`).upload('', 0, { metadata });
  await client.getBlockBlobClient(`${MARKS}strange.json`).upload('', 0, { metadata: { ...metadata, at: 'x' } });
  const recently = { removedMarks: [] };
  t.match(
    await jsonOf(['prune'], { ...place.variables, ...LAST }),
    recently,
    'a copy of the snapshot can still arrive',
  );
  const later = await through(t, place.variables, () => ({ aheadMs: 2 * HOUR }));
  t.match(await jsonOf(['prune', '--dry-run'], { ...later, ...LAST }), { removedMarks: [] });
  t.match(await jsonOf(['prune'], { ...later, ...LAST }), { removedMarks: [`${MARKS}gone.json`] });
  t.strictSame(await marksOf(place), [`${MARKS}strange.json`], 'what is no mark is left alone');
});

t.test("Azure's legal hold: of all forms and bundles, and what is missing where it is refused", async (t) => {
  const place = await fill(1);
  const [name = ''] = place.names;
  const held: string[] = [];
  const isHold = ({ url }: Seen): boolean => url.searchParams.get('comp') === 'legalhold';
  const allowed = await through(t, place.variables, (seen) => {
    if (isHold(seen)) held.push(seen.url.pathname.split('/').at(-1) ?? '');
    return isHold(seen) ? { status: 200 } : 'pass';
  });
  t.match(await jsonOf(['keep', name, '--legal-hold'], allowed), { kept: { until: null }, legalHold: [name] });
  t.match(await jsonOf(['release', name, '--legal-hold'], allowed), { released: true, legalHold: [name] });
  t.strictSame(held, [name, name]);
  const refuse = async (status: number, code: string): Promise<{ message: string; hint: string }> => {
    const variables = await through(t, place.variables, (seen) => (isHold(seen) ? { status, code } : 'pass'));
    const finished = await runCommand(['keep', name, '--legal-hold'], variables);
    t.equal(finished.code, 12);
    return errorOf(finished);
  };
  const forbidden = await refuse(403, 'AuthorizationPermissionMismatch');
  t.match(forbidden.message, /^The account key has no permission to set or remove legal holds on container keep-/);
  t.match(forbidden.hint, /Storage Blob Data Owner.*immutableStorage\/runAsSuperUser\/action; a SAS token needs.* i\./);
  const unsupported = await refuse(409, 'FeatureNotEnabled');
  t.match(unsupported.message, /does not accept legal holds for blobs\. \[FeatureNotEnabled\]/);
  t.match(unsupported.hint, /Enable version-level immutability support/);
  const real = await runCommand(['keep', name, '--legal-hold'], place.variables);
  t.match(errorOf(real), { message: /does not accept legal holds/, exitCode: 12 }, 'Azurite has none');
  t.match(
    await jsonOf<Listed[]>(['list'], place.variables),
    [{ kept: { until: null } }],
    'the mark counts all the same',
  );
});
