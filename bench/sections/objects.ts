import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Bench, interleave, nameOfSize, program, roomIn, say, worker } from '../bench.ts';
import { markdown, ratios, spread } from '../figures.ts';
import type { Cost } from '../measure.ts';
import { Source } from '../source.ts';
import type { Report, Target } from '../verdicts.ts';

const VERIFY = '`verify FILE`';
const EXTRACT = '`extract FILE --namespace NAME`';
const INSPECT = '`inspect FILE --objects --namespace NAME`';
const BROWSE = '`browse FILE` until the pods of a namespace were listed twice';

/** One of a thousand. Reading its objects is compared with the verification of the file, which is part of it. */
const NAMESPACE = 'namespace-7';

/** Objects out of a file, stored in protobuf as an API server stores them. */
export async function objectsSection(bench: Bench, size: number): Promise<Report> {
  say(`filling etcd with ${nameOfSize(size)}`);
  const room = roomIn(bench.memory, 'objects');
  const source = await Source.start({ ...bench, dir: join(room, 'etcd'), size, isProtobuf: true });
  const file = join(room, 'snapshot.db');
  await source.saveTo(file);
  await source.stop();
  const seen = join(room, 'seen');
  const browsed: { readonly first: number; readonly second: number; readonly memory: number }[] = [];
  const costs = await interleave(bench, [
    { title: VERIFY, commands: () => [worker('verify', file)] },
    { title: EXTRACT, commands: (dir) => [worker('extract', file, '--namespace', NAMESPACE, '-o', join(dir, 'out'))] },
    { title: INSPECT, commands: () => [worker('inspect', file, '--objects', '--namespace', NAMESPACE)] },
    {
      title: BROWSE,
      commands: () => [program('browse', NAMESPACE, seen, ...worker('browse', file, '--port', '0'))],
      afterwards: async () => void browsed.push(JSON.parse(readFileSync(seen, 'utf8')) as (typeof browsed)[0]),
    },
  ]);
  rmSync(room, { recursive: true, force: true });

  const of = (title: string, figure: (cost: Cost) => number): number[] => (costs.get(title) ?? []).map(figure);
  const wall = (title: string): number[] => of(title, (cost) => cost.wall);
  const rss = (title: string): number[] => of(title, (cost) => cost.rss);
  // Without the round that warms up.
  const browses = browsed.slice(-bench.rounds);
  const command = `--sections objects --sizes ${nameOfSize(size).replace(' ', '')}`;
  const targets: Target[] = [
    {
      what: 'one namespace: wall / `verify FILE`',
      goal: 1.3,
      rounds: ratios(wall(EXTRACT), wall(VERIFY)),
      command,
    },
    { what: 'one namespace: peak RSS, MiB', goal: 256, digits: 0, rounds: rss(EXTRACT), command },
    {
      what: '`browse`: until the first answer / `verify FILE`',
      goal: 1.3,
      rounds: ratios(
        browses.map(({ first }) => first),
        wall(VERIFY),
      ),
      command,
    },
    {
      what: '`browse`: peak RSS, MiB',
      goal: 256,
      digits: 0,
      rounds: browses.map(({ memory }) => memory),
      command,
    },
    {
      what: '`browse`: the second answer, s',
      goal: 0.2,
      rounds: browses.map(({ second }) => second),
      command,
    },
  ];
  const rows = [VERIFY, EXTRACT, INSPECT, BROWSE].map((title) => [
    title,
    spread(wall(title)),
    spread(ratios(wall(title), wall(VERIFY))),
    Math.max(...rss(title)).toFixed(0),
  ]);
  return {
    tables: [markdown(`Objects out of a file of ${nameOfSize(size)}`, ['', 'wall s', 'ratio', 'peak RSS MiB'], rows)],
    targets,
  };
}
