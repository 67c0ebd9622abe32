import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { bundleName, isBundleName } from '../../src/snapshot/snapshot-name.ts';
import { Azurite } from '../support/azurite.ts';
import { startBackupSite } from '../support/backup-site.ts';
import { jsonOf } from '../support/command.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { collect, type Variables } from '../support/process.ts';
import { Random } from '../support/random.ts';
import { nextSecond, until } from '../support/until.ts';
import { runWorker, startWorker } from '../support/worker.ts';

const ROUNDS = 30;
const SEED = 25;

const { dir, azurite, cluster, variablesOf } = await startBackupSite(t, 'killed-copies');
await cluster.fill(300, 50_000);
const second = await Azurite.start(join(dir, 'second'));
t.teardown(async () => second.stop());

await jsonOf(['keygen', join(dir, 'keys')], {});
const SEALED = {
  SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE: join(dir, 'keys', 'recipient.txt'),
  SNAPSHOT_BUNDLE: join(dir, 'keys', 'verification.pem'),
  SNAPSHOT_SIGNING_KEY_FILE: join(dir, 'keys', 'signing.pem'),
};
const variables: Variables = { ...variablesOf('source'), ...second.copyVariables('copies') };
for (const settings of [SEALED, {}, SEALED]) {
  await jsonOf(['backup'], { ...variables, ...settings });
  await nextSecond();
}

const NOTES = 'etcd-snapshot-copies/';

/** The snapshots that some event says were read back. */
async function notedIn(prefix: string): Promise<Set<string>> {
  const client = second.container('copies');
  const noted = new Set<string>();
  for await (const { metadata } of client.listBlobsFlat({ prefix: `${prefix}${NOTES}`, includeMetadata: true })) {
    noted.add(metadata?.['snapshot'] ?? '');
  }
  return noted;
}

/** What every blob but those events is, by its name without the prefix. */
async function blobsIn(store: Azurite, container: string, prefix: string): Promise<Map<string, string>> {
  const client = store.container(container);
  const blobs = new Map<string, string>();
  const names = (await store.names(container)).filter((each) => each.startsWith(prefix));
  for (const name of names.filter((each) => !each.startsWith(`${prefix}${NOTES}`))) {
    const blob = client.getBlobClient(name);
    const { metadata } = await blob.getProperties();
    const sha256 = createHash('sha256')
      .update(await blob.downloadToBuffer())
      .digest('hex');
    blobs.set(name.slice(prefix.length), `${sha256} ${JSON.stringify(metadata)}`);
  }
  return blobs;
}

t.test('a copy that is killed between commit and read-back is read back by the next run', async (t) => {
  const proxy = await FaultProxy.start(second.url, ({ method, url }) =>
    method === 'GET' && url.pathname.includes('kubernetes-etcd-snapshot_') ? 'hang' : 'pass',
  );
  t.teardown(async () => proxy.stop());
  const own = { ...variables, SNAPSHOT_COPY_BLOB_PREFIX: 'between/' };
  const name = (await azurite.names('source')).find((each) => each.endsWith('.db')) ?? '';
  const worker = startWorker(['copy', name], { ...own, SNAPSHOT_COPY_AZURE_BLOB_ENDPOINT: proxy.url });
  const ended = collect(worker);
  await until(async () => (await second.names('copies')).includes(`between/${name}`));
  worker.kill('SIGKILL');
  await ended;
  t.strictSame([...(await notedIn('between/'))], [], 'nothing says that it was read back');
  t.match(await jsonOf(['copy', name], own), { copied: [], present: 0, readBack: [name], missing: 2 });
  t.strictSame([...(await notedIn('between/'))], [name]);
});

t.test(`${ROUNDS} times two copies at once, of which some are killed`, async (t) => {
  const random = new Random(SEED);
  const source = await blobsIn(azurite, 'source', '');
  t.equal(source.size, 5, 'three snapshots and two bundles');
  // The first run fills caches, and takes longer than those that are killed.
  const times: number[] = [];
  for (const prefix of ['cold/', 'warm/']) {
    const { code, stderr, ms } = await runWorker(['copy'], { ...variables, SNAPSHOT_COPY_BLOB_PREFIX: prefix });
    t.equal(code, 0, stderr);
    times.push(ms);
  }
  const whole = Math.min(...times);
  const ends: Record<string, number> = {};
  let unreads = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const prefix = `${round}/`;
    const own = { ...variables, SNAPSHOT_COPY_BLOB_PREFIX: prefix };
    const runs = [1, 2].map(() => {
      const worker = startWorker(['copy'], own);
      return { worker, ended: collect(worker), delay: random.below(Math.round(whole * 1.5)) };
    });
    const signals = runs.map(() => random.of(['SIGKILL', 'SIGTERM', 'none'] as const));
    const finished = await Promise.all(
      runs.map(async ({ worker, ended, delay }, index) => {
        const signal = signals[index];
        if (signal !== undefined && signal !== 'none') void sleep(delay).then(() => worker.kill(signal));
        return ended;
      }),
    );
    const visible = await blobsIn(second, 'copies', prefix);
    const what = `round ${round}: ${signals.join()} ended with ${finished.map(({ code }) => code).join()}`;
    for (const [name, content] of visible) {
      t.equal(content, source.get(name), `${what}: ${name} is the same`);
      const bundle = bundleName(name);
      if (!isBundleName(name) && source.has(bundle)) t.ok(visible.has(bundle), `${what}: ${name} has its bundle`);
    }
    finished.forEach(({ code, stderr }, index) => {
      if (signals[index] === 'none') t.equal(code, 0, `${what}: ${stderr}`);
      if (code === 0) t.equal(visible.size, source.size, `${what}: a success is complete`);
    });
    const noted = await notedIn(prefix);
    const unread = [...visible.keys()].filter((name) => !isBundleName(name) && !noted.has(name));
    unreads += unread.length;
    const last = await runWorker(['copy', '--json'], own);
    t.equal(last.code, 0, `${what}, then: ${last.stderr}`);
    t.strictSame(await blobsIn(second, 'copies', prefix), source, `${what}: the next run completes it`);
    t.strictSame(
      (JSON.parse(last.stdout) as { readBack: string[] }).readBack.toSorted(),
      unread.toSorted(),
      `${what}: the next run reads back what was not`,
    );
    t.equal((await notedIn(prefix)).size, 3, `${what}: everything was read back`);
    ends[`${visible.size} visible`] = (ends[`${visible.size} visible`] ?? 0) + 1;
  }
  t.comment(JSON.stringify(ends), `${unreads} not read back`);
  t.ok(Object.keys(ends).length > 2, 'at different moments');
});
