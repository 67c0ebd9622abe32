import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { readConfig } from '../../src/config/config.ts';
import { uncounted } from '../../src/retention/apply.ts';
import { planRetention } from '../../src/retention/retention-plan.ts';
import { generateIdentity } from '../../src/sealed/age-header.ts';
import { startBackupSite } from '../support/backup-site.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { type Fault, FaultProxy, type Seen } from '../support/fault-proxy.ts';
import { collect, type Variables } from '../support/process.ts';
import { openStore } from '../support/store.ts';
import { nextSecond, until } from '../support/until.ts';
import { errorOf, startWorker } from '../support/worker.ts';

/* A snapshot and its bundle: both or neither, whatever happens between them. */

interface Result {
  readonly name: string;
  readonly bundle: { readonly name: string };
  readonly findings: readonly string[];
}

const site = await startBackupSite(t, 'bundle-pairs');
const { dir, azurite } = site;
const identity = await generateIdentity('x25519');
await mkdir(join(dir, 'keys'));
await writeFile(join(dir, 'keys/ca.key'), 'key');

function variablesOf(container: string): Variables {
  return {
    ...site.variablesOf(container),
    SNAPSHOT_ENCRYPTION_RECIPIENTS: identity.recipient,
    SNAPSHOT_BUNDLE: join(dir, 'keys'),
  };
}

const KEEP_ONE = { SNAPSHOT_KEEP_LAST: '1' };

/** Variables of a run whose requests for a bundle, or for its snapshot, pass this rule. */
async function through(
  container: string,
  what: 'bundle' | 'snapshot',
  method: string,
  rule: (seen: Seen) => Fault | Promise<Fault>,
): Promise<Variables> {
  const ending = what === 'bundle' ? /\.bundle\.tar\.zst\.age$/ : /\.db\.age$/;
  const proxy = await FaultProxy.start(azurite.url, (seen: Seen): Fault | Promise<Fault> => {
    return seen.method === method && ending.test(seen.url.pathname) ? rule(seen) : 'pass';
  });
  t.teardown(async () => proxy.stop());
  return { ...variablesOf(container), SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
}

/** Kills a run when it sends such a request. */
async function killAt(container: string, args: readonly string[], what: 'bundle' | 'snapshot', method: string) {
  let isThere = false;
  const variables = await through(container, what, method, () => {
    isThere = true;
    return 'hang';
  });
  const worker = startWorker(args, { ...variables, ...KEEP_ONE });
  const finished = collect(worker);
  await until(() => isThere);
  worker.kill('SIGKILL');
  await finished;
}

/** What is said about a container two hours later. */
async function laterWarnings(container: string): Promise<string[]> {
  const later = new Date(Date.now() + 2 * 3600_000);
  const variables = azurite.variables(container);
  const { retention } = readConfig(variables, { etcd: false, storage: true });
  const plan = planRetention(await (await openStore(variables)).list(), retention, later);
  return uncounted(plan, later).map(({ sentence }) => sentence);
}

t.test('of two backups in one second, one stores both, and the other one neither', async (t) => {
  const container = azurite.container('second');
  await container.create();
  const variables = await through('second', 'bundle', 'PUT', async ({ url }): Promise<'pass'> => {
    const blob = container.getBlockBlobClient(url.pathname.split('/').at(-1) ?? '');
    if (!(await blob.exists())) await blob.upload('of another worker', 17);
    return 'pass';
  });
  const { code, stderr } = await runCommand(['backup'], variables);
  t.equal(code, 12);
  t.match(errorOf({ stderr }), { message: /bundle\.tar\.zst\.age already exists/, hint: /another run/ });
  const names = await azurite.names('second');
  t.equal(names.length, 1);
  t.match(names, [/bundle/]);

  const both = await Promise.all([1, 2].map(async () => runCommand(['backup'], variablesOf('together'))));
  t.equal(
    both.some((end) => end.code === 0),
    true,
  );
  t.ok(
    both.every((end) => end.code === 0 || end.code === 12),
    'no snapshot without its bundle',
  );
  const listed = await jsonOf<{ bundle?: object }[]>(['list'], variablesOf('together'));
  t.ok(listed.every(({ bundle }) => bundle !== undefined));
});

t.test('a run that is killed before its snapshot is committed leaves a bundle, which nobody deletes', async (t) => {
  await killAt('killed', [], 'snapshot', 'PUT');
  const [orphan = ''] = await azurite.names('killed');
  t.match(orphan, /bundle/);
  await nextSecond();
  const { name, bundle, findings } = await jsonOf<Result>(['backup'], variablesOf('killed'));
  t.strictSame(
    findings.filter((text) => text.includes('undle')),
    [],
    'another run could still need it',
  );
  t.match((await runCommand(['list'], variablesOf('killed'))).stdout, /bundle of a\s+snapshot that is not there/);
  t.match(await laterWarnings('killed'), [`Bundles without their snapshot are left unchanged: 1, such as ${orphan}.`]);
  await jsonOf(['prune'], { ...variablesOf('killed'), ...KEEP_ONE });
  t.strictSame(new Set(await azurite.names('killed')), new Set([orphan, name, bundle.name]));
});

t.test('retention that is killed between a snapshot and its bundle', async (t) => {
  const variables = variablesOf('pruned');
  const first = await jsonOf<Result>(['backup'], variables);
  await nextSecond();
  const second = await jsonOf<Result>(['backup'], variables);
  await killAt('pruned', ['prune'], 'bundle', 'DELETE');
  const left = new Set([first.bundle.name, second.name, second.bundle.name]);
  t.strictSame(new Set(await azurite.names('pruned')), left);
  await jsonOf(['prune'], { ...variables, ...KEEP_ONE });
  t.strictSame(new Set(await azurite.names('pruned')), left);
  t.match(await laterWarnings('pruned'), [`such as ${first.bundle.name}`]);
});

t.test('a bundle that somebody deleted or replaced is missed', async (t) => {
  const variables = variablesOf('missed');
  const one = await jsonOf<Result>(['backup'], variables);
  await nextSecond();
  const other = await jsonOf<Result>(['backup'], variables);
  t.match((await runCommand(['list'], variables)).stdout, 'with a bundle: 2 snapshots');
  const container = azurite.container('missed');
  await container.getBlobClient(one.bundle.name).delete();
  await container.getBlockBlobClient(other.bundle.name).upload('x', 1);
  const sentence = 'The bundles of snapshots are missing, or were replaced: 2, such as';
  t.match(await laterWarnings('missed'), [sentence]);
  t.match((await runCommand(['list'], variables)).stderr, sentence);
  const { checks } = await jsonOf<{ checks: object[] }>(['doctor'], variables);
  t.match(
    checks.filter((check) => 'check' in check && check.check === 'bundle'),
    [{ state: 'warn', finding: new RegExp(sentence) }, { state: 'ok' }],
  );
});

t.test('a blob that only has the name of a bundle is not deleted with the snapshot', async (t) => {
  const variables = variablesOf('named');
  const { SNAPSHOT_BUNDLE: _, ...without } = variables;
  const { name } = await jsonOf<Result>(['backup'], without);
  const { metadata = {} } = await azurite.container('named').getBlobClient(name).getProperties();
  const planted = name.replace('.db.age', '.bundle.tar.zst.age');
  const uploadid = metadata['uploadid'] ?? '';
  await azurite.container('named').getBlockBlobClient(planted).upload('x', 1, { metadata: { uploadid } });
  await nextSecond();
  const next = await jsonOf<Result>(['backup'], { ...without, ...KEEP_ONE });
  t.strictSame(new Set(await azurite.names('named')), new Set([planted, next.name]));
});
