import { readdirSync, readFileSync, statSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { jsonOf } from '../support/command.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { collect, temporaryFolder } from '../support/process.ts';
import { runWorker, startWorker, withTools } from '../support/worker.ts';

const KILLS = 24;

const dir = temporaryFolder('killed-restores');
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const azurite = await Azurite.start(join(dir, 'azurite'));
const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
t.teardown(async () => Promise.all([azurite.stop(), cluster.stop()]));
// This text is in every snapshot, and in nothing that is compressed or encrypted.
const MARK = 'a-secret-of-the-cluster';
await cluster.fill(400, 50_000);
for (let count = 0; count < 50; count++) await cluster.etcdctl('put', `/registry/secrets/${count}`, MARK);

const keys = join(dir, 'keys');
await jsonOf(['keygen', keys], {});
const storage = azurite.variables('sealed');
const { name } = await jsonOf<{ name: string }>(['backup'], {
  ...{ ...cluster.variables, ...storage },
  SNAPSHOT_COMPRESSION: 'zstd',
  SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE: join(keys, 'recipient.txt'),
});

/** All that a run can write to. */
const place = join(dir, 'place');
const out = join(place, 'out');
const variables = {
  ...{ ...storage, ...withTools(tools) },
  ...{ HOME: join(place, 'home'), TMPDIR: join(place, 'tmp'), SNAPSHOT_SPOOL_DIR: join(place, 'tmp') },
  SNAPSHOT_ENCRYPTION_IDENTITY_FILE: join(keys, 'identity.txt'),
};

async function begin(): Promise<void> {
  await rm(place, { recursive: true, force: true });
  for (const each of ['out', 'home', 'tmp']) await mkdir(join(place, each), { recursive: true });
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));
}

for (const [what, args, isAllowed, result] of [
  ['restore', ['restore', name, '--name', 'm1', '--data-dir', join(out, 'data')], /^out\/data(\.restoring)?\//, 'data'],
  ['download', ['restore', name, '--download', join(out, 'x.db'), '--open'], /^out\/x\.db(\.restoring\/|$)/, 'x.db'],
  ['drill', ['drill', name], /^tmp\/etcd-drill-[^/]+\//, undefined],
] as const) {
  t.test(`kills of a ${what} leave opened bytes only where it writes them, and the next one cleans up`, async (t) => {
    await begin();
    const whole = await runWorker(args, variables, place);
    t.equal(whole.code, 0, whole.stderr);
    let withBytes = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      await begin();
      const signal = kill % 2 === 0 ? 'SIGKILL' : 'SIGTERM';
      const worker = startWorker(args, variables, place);
      const ended = collect(worker);
      await sleep(whole.ms * (0.2 + (0.8 * kill) / KILLS));
      worker.kill(signal);
      await ended;
      const opened = filesIn(place).filter((file) => readFileSync(file).includes(MARK));
      withBytes += opened.length;
      for (const file of opened) {
        t.match(relative(place, file), isAllowed, `${signal} ${kill}`);
        const parent = statSync(join(place, relative(place, file).split('/').slice(0, 2).join('/')));
        t.equal(parent.mode & 0o077, 0, `${file} is private`);
      }
      if (opened.length === 0) continue;
      const again = await runWorker(args, variables, place);
      const isThere = result !== undefined && again.stderr.includes('is not empty');
      t.equal(again.code, isThere ? 2 : 0, `${signal} ${kill}, the next run: ${again.stderr}`);
      t.strictSame(readdirSync(out), result === undefined ? [] : [result], `${signal} ${kill}: nothing else is left`);
      t.strictSame(readdirSync(join(place, 'tmp')), [], `${signal} ${kill}: nothing is left`);
    }
    t.comment(`${withBytes} files with opened bytes`);
  });
}
