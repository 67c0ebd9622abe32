import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import t from 'tap';
import { startBackupSite } from '../support/backup-site.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { restoreAndCount } from '../support/etcd.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { findJudge } from '../support/judges.ts';
import { mustRun, type Variables } from '../support/process.ts';
import { metadataOf, type Plan, RECORDED_NAME, type Restored } from '../support/restored.ts';
import { nextSecond } from '../support/until.ts';
import { errorOf, withTools } from '../support/worker.ts';

interface Result {
  readonly name: string;
  readonly size: number;
  readonly sha256: string;
  readonly liveKeys: number;
  readonly encoding?: string;
  readonly storedSize?: number;
  readonly storedSha256?: string;
  readonly retention: { readonly removed: readonly string[] };
}

const { dir, tools, azurite, cluster, variablesOf } = await startBackupSite(t, 'sealed');
await cluster.fill(200, 2000);
const ZSTD: Variables = { SNAPSHOT_COMPRESSION: 'zstd' };

function sha256Of(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** A container with a plain snapshot and, newer, a compressed one. */
async function mixed(container: string): Promise<{ variables: Variables; plain: Result; sealed: Result }> {
  const variables = variablesOf(container);
  const plain = await jsonOf<Result>(['backup'], variables);
  await nextSecond();
  const sealed = await jsonOf<Result>(['backup'], { ...variables, ...ZSTD });
  return { variables, plain, sealed };
}

t.test('every command works on a container with plain and compressed snapshots', async (t) => {
  const { variables, plain, sealed } = await mixed('mixed');
  const blob = azurite.container('mixed').getBlobClient(sealed.name);
  const stored = await blob.downloadToBuffer();
  const file = zstdDecompressSync(stored);
  t.match(
    plain,
    { name: /\d\.db$/, encoding: undefined, storedSize: undefined },
    'nothing changes without the variable',
  );
  t.match(sealed, { name: /\d\.db\.zst$/, encoding: 'zstd', size: file.length, sha256: sha256Of(file) });
  t.match(sealed, { storedSize: stored.length, storedSha256: sha256Of(stored) });
  t.match((await blob.getProperties()).metadata, {
    ...{ encoding: 'zstd', storedsize: String(stored.length), storedsha256: sealed.storedSha256 },
    ...{ sha256: sealed.sha256, totalsize: String(file.length - 32) },
  });
  const { stdout: table } = await runCommand(['list'], variables);
  t.match(table, /SIZE +REVISION +KEYS +STORED +RETENTION/);
  for (const line of table.trim().split('\n')) t.ok(line.length <= 100, line);
  t.match(await jsonOf(['list'], variables), [
    { name: sealed.name, size: file.length, encoding: 'zstd', storedSize: stored.length },
    { name: plain.name, size: plain.size },
  ]);
  const report = { ok: true, sha256: sealed.sha256, size: file.length, encoding: 'zstd', storedSize: stored.length };
  t.match(await jsonOf(['verify', sealed.name], variables), report);
  const local = join(dir, 'local.db.zst');
  await writeFile(local, stored);
  t.match(await jsonOf(['verify', local], {}), report);
  t.match((await runCommand(['inspect', sealed.name], variables)).stdout, /^compressed with zstd, /m);
  t.match(await jsonOf(['inspect', local], {}), { liveKeys: sealed.liveKeys, encoding: 'zstd' });
  t.match(await jsonOf(['inspect', sealed.name, plain.name], variables), { added: [], removed: [], changed: [] });

  const restored = await jsonOf<Restored & { name: string }>(
    ['restore', '--force', '--name', 'm1', '--data-dir', join(dir, 'restored')],
    variables,
  );
  t.equal(restored.name, sealed.name, 'the newest');
  t.match(
    await jsonOf(['restore', local, '--name', 'm1', '--data-dir', join(dir, 'of-file')], {
      ...withTools(tools),
    }),
    { dataDir: join(dir, 'of-file') },
  );
  t.match(await jsonOf(['drill', sealed.name], variables), { ok: true, encoding: 'zstd' });
  t.match(await jsonOf(['drill', local], withTools(tools)), { ok: true });
  const { checks } = await jsonOf<{ checks: { check: string; state: string }[] }>(['doctor'], variables);
  t.match(
    checks.find(({ check }) => check === 'newest snapshot'),
    { state: 'ok' },
  );
  const pruned = await jsonOf<{ removed: string[] }>(['prune'], { ...variables, SNAPSHOT_KEEP_LAST: '1' });
  t.strictSame(pruned.removed, [plain.name]);
  await nextSecond();
  const next = await jsonOf<Result>(['backup'], { ...variables, SNAPSHOT_KEEP_LAST: '1' });
  t.strictSame(next.retention.removed, [sealed.name], 'retention does not depend on the settings of today');
});

t.test('a download is stored as it is, or opened', async (t) => {
  const { variables, sealed, plain } = await mixed('download');
  const as = async (file: string, ...more: string[]): Promise<Record<string, unknown>> =>
    jsonOf(['restore', sealed.name, '--download', join(dir, file), ...more], variables);
  t.match(await as('d.db.zst'), { alreadyDone: false, encoding: 'zstd', storedSha256: sealed.storedSha256 });
  t.equal(sha256Of(await readFile(join(dir, 'd.db.zst'))), sealed.storedSha256);
  t.match(await as('d.db.zst'), { alreadyDone: true });
  t.match(await as('d.db', '--open'), { alreadyDone: false, sha256: sealed.sha256 });
  t.equal(sha256Of(await readFile(join(dir, 'd.db'))), sealed.sha256);
  t.match(await as('d.db', '--open'), { alreadyDone: true });
  const other = await runCommand(['restore', sealed.name, '--download', join(dir, 'd.db')], variables);
  t.equal(other.code, 2, 'the other form is another file');
  t.match(await jsonOf(['restore', plain.name, '--download', join(dir, 'p.db'), '--open'], variables), {
    sha256: plain.sha256,
  });
  const { stdout } = await runCommand(['restore', sealed.name, '--download', join(dir, 'e.db.zst')], variables);
  t.match(stdout, 'zstd -d');
  t.equal((await runCommand(['restore', '--open', '--name', 'm1', '--data-dir', dir], variables)).code, 2);

  const plan = await jsonOf<Plan>(
    ['restore', '--plan', '--force', '--layout', 'k3s', '--output', join(dir, 'plan.json')],
    variables,
  );
  t.equal(plan.snapshot.name, sealed.name);
  const lines = plan.steps.flatMap(({ run }) => run);
  t.notMatch(lines.join('\n'), /encrypted|^#$/m);
  t.ok(
    lines.some((line) => /--download \S+\.db --open$/.test(line)),
    lines.join('\n'),
  );
  const fromPlan = ['restore', '--from-plan', join(dir, 'plan.json'), '--download', join(dir, 'q.db'), '--open'];
  t.match(await jsonOf(fromPlan, variables), { sha256: sealed.sha256, alreadyDone: false });
  t.match(await jsonOf(fromPlan, variables), { alreadyDone: true });
});

t.test('etcd restores what zstd unpacks', { skip: findJudge('zstd') === undefined && 'no zstd here' }, async (t) => {
  const variables = { ...variablesOf('tools'), ...ZSTD };
  const { name, liveKeys } = await jsonOf<Result>(['backup'], variables);
  const sealed = join(dir, 'tools.db.zst');
  await azurite.container('tools').getBlobClient(name).downloadToFile(sealed);
  await mustRun('sh', ['-c', `zstd -q -d <${sealed} >${join(dir, 'tools.db')}`]);
  t.equal(await restoreAndCount(tools, join(dir, 'tools.db'), join(dir, 'tools')), liveKeys);
});

t.test('name, record and bytes must agree', async (t) => {
  const client = azurite.container('forged');
  await client.create();
  const variables = variablesOf('forged');
  const stored = zstdCompressSync(SNAPSHOT);
  const seal = { encoding: 'zstd', storedsize: String(stored.length), storedsha256: sha256Of(stored) };
  const sealed = `${RECORDED_NAME}.zst`;
  const put = async (name: string, bytes: Buffer, metadata: Record<string, string>): Promise<void> => {
    await client.getBlockBlobClient(name).upload(bytes, bytes.length, { metadata });
  };
  await put(sealed, stored, metadataOf(seal));
  t.match(await jsonOf(['verify', sealed], variables), { ok: true }, 'this one is a snapshot');
  t.match(await jsonOf(['list'], variables), [{ name: sealed, record: true }]);
  const forgeries: readonly [
    what: string,
    name: string,
    bytes: Buffer,
    more: Record<string, string>,
    listed: boolean,
  ][] = [
    ['a sealed record under the name of a plain one', RECORDED_NAME, stored, seal, false],
    ['a plain record under the name of a sealed one', sealed, stored, {}, false],
    [
      'plain bytes under a sealed name and record',
      sealed,
      SNAPSHOT,
      { ...seal, storedsize: String(SNAPSHOT.length) },
      true,
    ],
    ['another length than in the record', sealed, Buffer.concat([stored, Buffer.alloc(1)]), seal, false],
    [
      'another sha256 of the blob',
      sealed,
      zstdCompressSync(SNAPSHOT),
      { ...seal, storedsha256: 'ab'.repeat(32) },
      true,
    ],
    ['another snapshot', sealed, stored, { ...seal, sha256: 'ab'.repeat(32) }, true],
    ['a larger snapshot', sealed, stored, { ...seal, totalsize: '274432' }, true],
    ['an unknown encoding', sealed, stored, { ...seal, encoding: 'gzip' }, false],
    ['a part of the record', sealed, stored, { encoding: 'zstd' }, false],
  ];
  for (const [what, name, bytes, more, isListed] of forgeries) {
    for (const each of [sealed, RECORDED_NAME]) await client.getBlobClient(each).deleteIfExists();
    await put(name, bytes, metadataOf(more));
    const [listed] = await jsonOf<{ record: boolean }[]>(['list'], variables);
    t.equal(listed?.record, isListed, `${what}: list`);
    for (const command of [
      ['verify', name],
      ['inspect', name],
      ['restore', name, '--download', join(dir, 'forged')],
    ]) {
      const { code, stderr } = await runCommand(command, variables);
      t.equal(code, 11, `${what}: ${command.join(' ')}: ${stderr}`);
      t.notMatch(errorOf({ stderr }).hint, 'report');
    }
    t.notOk((await readdir(dir)).includes('forged'), 'nothing was written');
  }
});
