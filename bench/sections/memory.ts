import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Bench, nameOfSize, roomIn, say, worker } from '../bench.ts';
import { markdown, MB, MIB } from '../figures.ts';
import { type Command, measure } from '../measure.ts';
import { Source } from '../source.ts';
import { BlobTarget } from '../target.ts';
import type { Report, Target } from '../verdicts.ts';

/** The largest size for the smaller container, as `resources.limits.memory` of the manifests has it. */
const SMALL = 240 * MB;
const LIMITS = { small: 256, large: 512 } as const;

/** Each command in a container of limited memory, of which the page cache is a part. Needs root. */
export async function memorySection(bench: Bench): Promise<Report> {
  const { tools, tls, disk } = bench;
  const rows: string[][] = [];
  const targets: Target[] = [];
  for (const size of bench.sizes) {
    say(`filling etcd with ${nameOfSize(size)}`);
    // Both the database and its restored copy are too large for memory.
    const room = roomIn(disk, 'memory');
    const source = await Source.start({ tools, tls, dir: join(room, 'etcd'), size });
    const target = await BlobTarget.start('https', join(room, 'sink'), tls);
    await target.clear();
    const limit = size <= SMALL ? LIMITS.small : LIMITS.large;
    const variables = {
      ...source.cluster.variables,
      ...target.variables,
      PATH: `${join(tools.etcd, '..')}:${process.env['PATH']}`,
    };
    const run = async (title: string, command: Command, mebibytes: number): Promise<void> => {
      say(`${title} in ${mebibytes} MiB`);
      const group = new MemoryGroup(mebibytes * MIB);
      const ended = await measure([group.within(command)], variables, room).then(
        ({ wall, rss }) => ({ text: [wall.toFixed(1), rss.toFixed(0)], isDone: true }),
        (error: unknown) => {
          say(String(error));
          return { text: ['failed', ''], isDone: false };
        },
      );
      rows.push([nameOfSize(size), title, `${mebibytes}`, ...ended.text, (group.peak / MIB).toFixed(0)]);
      group.remove();
      targets.push({
        what: `${nameOfSize(size)}: ${title} in ${mebibytes} MiB: failures`,
        goal: 0,
        rounds: [ended.isDone ? 0 : 1],
        digits: 0,
        command: `--sections memory --sizes ${nameOfSize(size).replace(' ', '')}`,
      });
    };
    await run('`backup`', worker('backup'), limit);
    const [name = ''] = await target.names();
    const restored = join(room, 'restored');
    const member = ['--name', 'm1', '--data-dir', restored, '--initial-cluster', 'm1=https://127.0.0.1:2380'];
    await run('`verify`', worker('verify', name), limit);
    await source.stop();
    await run('`restore`', worker('restore', name, ...member), limit);
    rmSync(restored, { recursive: true, force: true });
    await run('`drill`', worker('drill', name, '--temp-dir', room), limit);
    await target.stop();
    rmSync(room, { recursive: true, force: true });
  }
  const columns = ['', 'command', 'limit MiB', 'wall s', 'peak RSS MiB', 'peak with page cache MiB'];
  return { tables: [markdown('In a container of limited memory', columns, rows)], targets };
}

/** A control group of its own with a limit of memory, of either version of them. */
class MemoryGroup {
  readonly #path: string;
  readonly #peak: string;

  /** @param limit bytes */
  constructor(limit: number) {
    const isUnified = existsSync('/sys/fs/cgroup/cgroup.controllers');
    this.#path = `/sys/fs/cgroup/${isUnified ? '' : 'memory/'}etcd-snapshot-bench-${process.pid}`;
    this.#peak = join(this.#path, isUnified ? 'memory.peak' : 'memory.max_usage_in_bytes');
    mkdirSync(this.#path);
    writeFileSync(join(this.#path, isUnified ? 'memory.max' : 'memory.limit_in_bytes'), String(limit));
  }

  /** Bytes. */
  get peak(): number {
    return Number(readFileSync(this.#peak, 'utf8'));
  }

  within(command: Command): Command {
    return ['sh', '-c', 'echo $$ >"$0" && exec "$@"', join(this.#path, 'cgroup.procs'), ...command];
  }

  remove(): void {
    rmdirSync(this.#path);
  }
}
