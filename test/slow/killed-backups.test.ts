import { createHash } from 'node:crypto';
import { mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { isBundleName } from '../../src/snapshot/snapshot-name.ts';
import { Azurite } from '../support/azurite.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { collect, mustRun, temporaryFolder } from '../support/process.ts';
import { MAIN, runWorker, startWorker } from '../support/worker.ts';

const KILLS = 200;

const dir = temporaryFolder('kills');
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
const container = azurite.container('kills');
await container.create();

const spool = join(dir, 'spool');
await mkdir(spool);
const keys = join(dir, 'keys');
await mustRun(process.execPath, ['--', MAIN, 'keygen', keys]);
const identityFile = join(keys, 'identity.txt');
const SIGNED = {
  SNAPSHOT_SIGNING_KEY_FILE: join(keys, 'signing.pem'),
  SNAPSHOT_VERIFICATION_KEYS_FILE: join(keys, 'verification.pem'),
};
const SEALED = {
  ...SIGNED,
  SNAPSHOT_COMPRESSION: 'zstd',
  SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE: join(keys, 'recipient.txt'),
  SNAPSHOT_BUNDLE: join(keys, 'verification.pem'),
};

for (const [size, count, settings] of [
  ['small', 20, {}],
  ['large', 500, {}],
  ['sealed', 500, SEALED],
] as const) {
  t.test(`${KILLS / 2} kills of a ${size} backup at random moments`, async (t) => {
    const cluster = await EtcdCluster.start({ tools, dir: join(dir, size) });
    t.teardown(async () => cluster.stop());
    await cluster.fill(count, 50_000);
    const temporary = { SNAPSHOT_SPOOL_DIR: spool, TMPDIR: spool };
    const variables = { ...cluster.variables, ...azurite.variables('kills'), ...temporary, ...settings };
    const whole = await runWorker([], variables);
    t.equal(whole.code, 0, whole.stderr);
    await empty();

    // A machine that was busy during the first run would let most of the others end before they are killed.
    let wholeMs = whole.ms;
    const ends: Record<string, number> = {};
    for (let kill = 0; kill < KILLS / 2; kill++) {
      const signal = kill % 2 === 0 ? 'SIGKILL' : 'SIGTERM';
      const delay = Math.random() * wholeMs * 1.1;
      // Of its own, for the service may yet do what a run asked for that was killed before.
      const prefix = `${size}-${kill}/`;
      const worker = startWorker([], { ...variables, SNAPSHOT_BLOB_PREFIX: prefix });
      const ended = collect(worker);
      await sleep(delay);
      worker.kill(signal);
      const { code, stdout, stderr, ms } = await ended;
      if (code === 0) wholeMs = Math.min(wholeMs, ms);

      const blobs = (await azurite.names('kills')).filter((name) => name.startsWith(prefix));
      const visible = blobs.filter((name) => !isBundleName(name));
      const what = `${signal} after ${Math.round(delay)} ms: code ${code}, ${visible.length} visible`;
      const isProven = stderr.includes('read back stored snapshot');
      if (stdout.includes('successfully')) t.ok(isProven, `${what}: ${stderr}`);
      if (isProven) t.equal(visible.length, 1, `${what}, as it said`);
      else if (signal === 'SIGTERM' && !visible.some((name) => stderr.includes(`${name} may be stored`))) {
        t.strictSame(blobs, [], `${what}: ${stderr}`);
      }
      // A bundle is committed before its snapshot.
      if (size === 'sealed' && visible.length > 0) t.equal(blobs.length, 2, `${what}, with its bundle`);
      const end = `${signal}, ${visible.length === 0 ? 'nothing' : 'a snapshot'} visible`;
      ends[end] = (ends[end] ?? 0) + 1;
    }
    const names = await azurite.names('kills');
    // A bundle whose snapshot was not committed is never used.
    const alone = new Set(names.filter((name) => isBundleName(name) && !names.includes(snapshotOf(name))));
    for (const name of names.filter((each) => !alone.has(each))) t.ok(await isSound(name), `${name} is valid`);
    // A kill while the spool is created can leave an empty file.
    for (const file of await readdir(spool)) t.equal((await stat(join(spool, file))).size, 0, `${file} is empty`);
    t.comment(JSON.stringify(ends));
    t.equal((await runWorker([], variables)).code, 0, 'after all of it a backup still works');
    await empty();
  });
}

/** Whether a visible blob is exactly what its record says, and a snapshot to etcd's own tool. */
async function isSound(name: string): Promise<boolean> {
  if (name.endsWith('.age')) {
    const command = isBundleName(name) ? 'bundle' : 'verify';
    const args = [command, isBundleName(name) ? snapshotOf(name) : name, '--identity', identityFile];
    // A signature covers the name without its prefix.
    const prefix = { SNAPSHOT_BLOB_PREFIX: name.replace(/[^/]*$/, '') };
    const { code } = await runWorker(args, { ...azurite.variables('kills'), ...SIGNED, ...prefix });
    return code === 0;
  }
  const blob = container.getBlobClient(name);
  const bytes = await blob.downloadToBuffer();
  const { metadata } = await blob.getProperties();
  const file = join(dir, 'visible.db');
  await writeFile(file, bytes);
  await mustRun(tools?.snapshotTool ?? '', ['snapshot', 'status', file], { ETCDCTL_API: '3' });
  return createHash('sha256').update(bytes).digest('hex') === metadata?.['sha256'];
}

function snapshotOf(bundle: string): string {
  return bundle.replace('.bundle.tar.', '.db.');
}

async function empty(): Promise<void> {
  for (const name of await azurite.names('kills')) await container.deleteBlob(name);
}
