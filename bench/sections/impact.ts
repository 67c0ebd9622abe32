import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { collect, launch } from '../../test/support/process.ts';
import { type Bench, type Contender, interleave, nameOfSize, program, roomIn, say, worker } from '../bench.ts';
import { markdown, MB, quantile, ratios, spread } from '../figures.ts';
import { Source } from '../source.ts';
import { BlobTarget } from '../target.ts';
import type { Report, Target } from '../verdicts.ts';

const IDLE = 'idle';
const OURS = "during this worker's backup";
const SAVE = "during `etcdctl snapshot save` onto etcd's disk";

/** What a client of etcd feels of a snapshot: small writes to an etcd that keeps its data on a disk, as it should. */
export async function impactSection(bench: Bench, size: number): Promise<Report> {
  say(`filling etcd on the disk with ${nameOfSize(size)}`);
  const room = roomIn(bench.disk, 'impact');
  const source = await Source.start({ tools: bench.tools, tls: bench.tls, dir: join(room, 'etcd'), size });
  const target = await BlobTarget.start('https', join(room, 'sink'), bench.tls);
  await target.clear();
  const contenders: Contender[] = [
    { title: IDLE, commands: () => [['sleep', size < 100 * MB ? '1' : '3']] },
    {
      title: OURS,
      commands: () => [worker('backup')],
      variables: () => ({ ...source.cluster.variables, ...target.variables }),
      afterwards: async () => target.clear(),
    },
    { title: SAVE, commands: (folder) => [source.save(join(folder, 'snapshot.db'))] },
  ];
  const costs = await interleave(bench, contenders, async (run) => {
    const [command = '', ...args] = program('puts', ...source.place);
    const client = launch(command, args);
    const ended = collect(client);
    if (client.stdout !== null) await once(client.stdout, 'data');
    await run();
    await sleep(50);
    client.kill('SIGTERM');
    const { stdout, stderr } = await ended;
    const [, latencies] = stdout.trim().split('\n');
    if (latencies === undefined) throw new Error(stderr);
    return JSON.parse(latencies) as number[];
  });
  await source.stop();
  await target.stop();
  const of = (title: string, share: number): number[] =>
    (costs.get(title) ?? []).map(({ seen }) => quantile(seen ?? [], share));
  const rows = [...costs].map(([title, runs]) => {
    const all = runs.flatMap(({ seen }) => seen ?? []);
    return [title, spread(of(title, 0.5), 1), spread(of(title, 0.99), 1), Math.max(...all).toFixed(1), `${all.length}`];
  });
  const all = (title: string): number[] => (costs.get(title) ?? []).flatMap(({ seen }) => seen ?? []);
  const judged = quantile(all(OURS), 0.99) / quantile(all(SAVE), 0.99);
  const rounds = ratios(of(OURS, 0.99), of(SAVE, 0.99));
  const what = `p99 of puts during our backup / during etcdctl's save (${nameOfSize(size)})`;
  const targets: Target[] = [{ what, goal: 1, rounds, judged, command: '--sections impact' }];
  const columns = ['median ms', 'p99 ms', 'longest ms', 'puts'];
  return { tables: [markdown(`Puts to etcd, ${nameOfSize(size)}`, ['', ...columns], rows)], targets };
}
