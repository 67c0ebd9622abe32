import { rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { BUMP, findTool } from '../../src/restore/etcd-tool.ts';
import { mustRun } from '../../test/support/process.ts';
import { type Bench, type Contender, interleave, nameOfSize, program, roomIn, say, worker } from '../bench.ts';
import { GB, markdown, ratios, spread } from '../figures.ts';
import type { Command, Cost } from '../measure.ts';
import { Source } from '../source.ts';
import { BlobTarget } from '../target.ts';
import type { Report, Target } from '../verdicts.ts';

const VERIFY = '`verify FILE`';
const STATUS = '`etcdutl snapshot status`';
const SUM = '`sha256sum`';
const RESTORE = '`restore NAME`';
const DOWNLOAD = 'limit: the download alone';
const TOOL = "limit: etcd's tool alone, on a file";
const RAISING = 'the same, raising the revision as `restore` has it do';

/** The day after: a file verified beside what others do with it, and a restore beside its two parts. */
export async function filesSection(bench: Bench, size: number): Promise<Report> {
  const { tools, tls } = bench;
  say(`filling etcd with ${nameOfSize(size)}`);
  const room = roomIn(bench.memory, 'files');
  const source = await Source.start({ tools, tls, dir: join(room, 'etcd'), size });
  const target = await BlobTarget.start('https', join(room, 'sink'), tls);
  const file = join(room, 'snapshot.db');
  await source.saveTo(file);
  await target.clear();
  const [env = '', ...args] = worker('backup');
  await mustRun(env, args, { ...source.cluster.variables, ...target.variables });
  await source.stop();
  const [name = ''] = await target.names();

  const etcdTool = (...rest: string[]): Command => ['env', 'ETCDCTL_API=3', tools.snapshotTool, 'snapshot', ...rest];
  const verifying = await interleave(bench, [
    { title: VERIFY, commands: () => [worker('verify', file)] },
    { title: STATUS, commands: () => [etcdTool('status', file)] },
    { title: SUM, commands: () => [['sha256sum', file]] },
  ]);

  const restored = join(room, 'restored');
  const member = ['--name', 'm1', '--data-dir', restored];
  const cluster = ['--initial-cluster', 'm1=https://127.0.0.1:2380'];
  const address = ['--initial-advertise-peer-urls', 'https://127.0.0.1:2380'];
  const alone = etcdTool('restore', file, ...member, ...cluster, ...address);
  const { canBump } = await findTool([dirname(tools.snapshotTool)], new AbortController().signal);
  const afterwards = async (): Promise<void> => rmSync(restored, { recursive: true, force: true });
  const restoring: Contender[] = [
    {
      title: RESTORE,
      commands: () => [worker('restore', name, ...member, ...cluster)],
      variables: () => ({ ...target.variables, PATH: `${join(tools.etcd, '..')}:${process.env['PATH']}` }),
      afterwards,
    },
    {
      title: DOWNLOAD,
      commands: () => [program('download', name, `${restored}.db`)],
      variables: () => target.variables,
      afterwards: async () => rmSync(`${restored}.db`, { force: true }),
    },
    { title: TOOL, commands: () => [alone], afterwards },
    ...(canBump
      ? [{ title: RAISING, commands: () => [[...alone, '--bump-revision', `${BUMP}`, '--mark-compacted']], afterwards }]
      : []),
  ];
  const restores = await interleave(bench, restoring);
  await target.stop();
  rmSync(room, { recursive: true, force: true });

  const [verify, status] = [walls(verifying, VERIFY), walls(verifying, STATUS)];
  const both = walls(verifying, SUM).map((seconds, round) => seconds + (status[round] ?? NaN));
  const partsWith = (title: string): number[] => {
    const tool = walls(restores, title);
    return walls(restores, DOWNLOAD).map(
      (seconds, round) => Math.max(seconds, tool[round] ?? NaN) + (tool[round] ?? NaN),
    );
  };
  const against = (title: string): number[] => ratios(walls(restores, RESTORE), partsWith(title));
  const command = '--sections files';
  const whole = canBump ? RAISING : TOOL;
  const floor = ratios(
    (restores.get(RESTORE) ?? []).map(({ machine }) => machine / availableParallelism()),
    partsWith(whole),
  );
  const targets: Target[] = [
    { what: '`verify FILE`: wall / `etcdutl snapshot status`', goal: 1.5, rounds: ratios(verify, status), command },
    { what: '`verify FILE`: wall / (`sha256sum` + status)', goal: 0.5, rounds: ratios(verify, both), command },
    {
      what: '`restore`: wall / (the slower of download and tool, plus the tool)',
      goal: 1.1,
      rounds: against(whole),
      floor,
      command,
    },
  ];
  return {
    tables: [
      table(`Verifying a file of ${nameOfSize(size)}`, verifying, status),
      table(`Restoring ${nameOfSize(size)} from the sink over TLS`, restores, partsWith(TOOL)),
    ],
    targets: size < GB ? [] : targets,
  };
}

function walls(costs: ReadonlyMap<string, readonly Cost[]>, title: string): number[] {
  return (costs.get(title) ?? []).map(({ wall }) => wall);
}

function table(title: string, costs: ReadonlyMap<string, readonly Cost[]>, base: readonly number[]): string {
  const rows = [...costs].map(([name, runs]) => {
    return [
      name,
      spread(walls(costs, name)),
      spread(ratios(walls(costs, name), base)),
      spread(runs.map(({ cpu }) => cpu)),
      Math.max(...runs.map(({ rss }) => rss)).toFixed(0),
    ];
  });
  return markdown(title, ['', 'wall s', 'ratio', 'CPU s', 'peak RSS MiB'], rows);
}
