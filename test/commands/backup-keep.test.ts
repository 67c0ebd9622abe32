import t from 'tap';
import { startBackupSite } from '../support/backup-site.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { type Fault, FaultProxy } from '../support/fault-proxy.ts';
import { nextSecond } from '../support/until.ts';
import { errorOf } from '../support/worker.ts';

interface Result {
  readonly name: string;
  readonly kept?: { readonly until: string | null; readonly note: string | null } | null;
  readonly retention: { readonly state: string; readonly removed: readonly string[] };
}

const { azurite, cluster, variablesOf } = await startBackupSite(t, 'backup-keep');
await cluster.fill(50, 100);
const LAST = { SNAPSHOT_KEEP_LAST: '1' };

t.test('a backup that is kept takes no place of a rule, and a plan shows its note', async (t) => {
  const variables = { ...variablesOf('kept'), ...LAST };
  const first = await jsonOf<Result>(['backup'], variables);
  t.notOk('kept' in first);
  await nextSecond();
  const kept = await jsonOf<Result>(['backup', '--keep=90d', '--note', 'before 1.36'], variables);
  const day = new Date(Date.now() + 90 * 86_400_000).toISOString().slice(0, 10);
  t.match(kept, { kept: { until: new RegExp(`^${day}T`), note: 'before 1.36' }, retention: { removed: [] } });
  const plan = await runCommand(['restore', '--plan', '--force', '--layout', 'kubeadm', kept.name], variables);
  t.match(plan.stdout, new RegExp(`\n +kept until ${day}: before 1\\.36\n`), plan.stderr);
  await nextSecond();
  const last = await jsonOf<Result>(['backup'], variables);
  t.strictSame(last.retention.removed, [first.name]);
  t.match(await jsonOf(['list'], variables), [{ name: last.name }, { name: kept.name, kept: { note: 'before 1.36' } }]);
  await nextSecond();
  t.match(await jsonOf(['backup', '--keep', '--note', 'for ever'], variables), { kept: { until: null } });
  t.match(await runCommand(['release', kept.name], variables), { code: 0 });
});

t.test('a backup that cannot be marked is stored, says so, and nothing is deleted', async (t) => {
  const variables = { ...variablesOf('unmarked'), ...LAST };
  const first = await jsonOf<Result>(['backup'], variables);
  await nextSecond();
  for (const [what, refuses] of [
    ['write', (method: string, url: URL) => method === 'PUT' && url.pathname.includes('etcd-snapshot-marks/')],
    ['list', (_: string, url: URL) => url.searchParams.get('prefix') === 'etcd-snapshot-marks/'],
  ] as const) {
    const proxy = await FaultProxy.start(azurite.url, ({ method, url }): Fault =>
      refuses(method, url) ? { status: 403, code: 'AuthorizationPermissionMismatch' } : 'pass',
    );
    t.teardown(async () => proxy.stop());
    const blind = { ...variables, SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
    const finished = await runCommand(['backup', '--json', '--keep'], blind);
    t.equal(finished.code, 3, what);
    const { name, ...result } = JSON.parse(finished.stdout) as Result;
    t.match(result, { kept: null, retention: { state: 'held', removed: [] } });
    const { message, hint } = errorOf(finished);
    t.match(message, `The backup ${name} is stored, but not marked as kept: the account key has no permission`);
    t.match(hint, `Run: etcd-snapshot keep ${name}`);
    t.match(await azurite.names('unmarked'), [first.name]);
    await nextSecond();
  }
});
