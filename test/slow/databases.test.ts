import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { databaseOf, databasePath, databaseVectors, slowCopy, Writer } from '../support/databases.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { temporaryFolder } from '../support/process.ts';
import { tools as oracles } from '../support/tools.ts';
import { jsonOf } from '../support/command.ts';
import { withTools } from '../support/worker.ts';

/** Copies per version, half of them torn on purpose. */
const COPIES = Number(process.env['DATABASE_COPIES'] ?? 100);

const dir = temporaryFolder('databases');
t.setTimeout(1_800_000);

const minor = (version: string): number => Number(version.split('.')[1]);

t.test(
  'every version from that of the copy on restores it and starts, with all keys and the same HashKV',
  async (t) => {
    const file = join(dir, 'vector.db');
    for (const vector of databaseVectors().filter(({ verdict }) => verdict === 'accept')) {
      await writeFile(file, databaseOf(vector));
      for (const tools of findEtcd().filter(({ version }) => minor(version) >= minor(vector.serverVersion))) {
        const drill = await jsonOf<{ ok: boolean }>(['drill', file, '--skip-hash-check'], withTools(tools));
        t.ok(drill.ok, `${vector.name} by etcd ${tools.version}`);
      }
    }
  },
);

for (const tools of findEtcd()) {
  t.test(`etcd ${tools.version}: ${COPIES} copies under load, none accepted that a real tool refuses`, async (t) => {
    const folder = join(dir, tools.version);
    const cluster = await EtcdCluster.start({ tools, dir: folder });
    t.teardown(async () => cluster.stop());
    await cluster.fill(100, 500);
    const writer = new Writer(cluster);
    t.teardown(async () => writer.stop());
    await writer.rounds(50);
    const file = join(folder, 'copy.db');
    const counts: Record<string, number> = {};
    for (let i = 0; i < COPIES; i++) {
      if (i % 2 === 0) await copyFile(databasePath(folder), file);
      else await writeFile(file, await slowCopy(databasePath(folder), async () => writer.rounds(i % 20)));
      const verdict = await jsonOf<{
        ok: boolean;
        hash: string;
        revision: number;
        totalKeys: number;
        liveKeys: number;
      }>(['verify', file, '--skip-hash-check'], {}).catch(() => undefined);
      const statuses = await Promise.all(
        oracles().map(async (oracle) => ({ oracle, status: await oracle.status(file) })),
      );
      for (const { oracle, status } of statuses) {
        if (verdict === undefined) continue;
        const totalKey = oracle.is36 ? verdict.liveKeys : verdict.totalKeys;
        const expected = { hash: Number.parseInt(verdict.hash, 16), revision: verdict.revision, totalKey };
        t.match(status, expected, `${i}: ${oracle.name}`);
      }
      const theirs = statuses.filter(({ status }) => status !== undefined).length;
      const what = `we ${verdict === undefined ? 'refuse' : 'accept'}, ${theirs} of ${statuses.length} tools accept`;
      counts[what] = (counts[what] ?? 0) + 1;
    }
    t.comment(JSON.stringify(counts));
    await writer.stop();
  });
}
