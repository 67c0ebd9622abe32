import { join } from 'node:path';
import { rmSync } from 'node:fs';
import { mustRun } from '../../test/support/process.ts';
import { ofCopy } from '../../test/support/azurite.ts';
import { type Bench, interleave, nameOfSize, program, roomIn, say, worker } from '../bench.ts';
import { markdown, ratios, spread } from '../figures.ts';
import type { Cost } from '../measure.ts';
import { Source } from '../source.ts';
import { BlobTarget } from '../target.ts';
import type { Report } from '../verdicts.ts';

const COPY = '`copy`, from one sink to the other';
const VERIFY = '`verify NAME` in the first';
const UPLOAD = "limit: the upload alone (the SDK's `uploadFile`)";

/** A plain snapshot copied to a second place, beside reading it with all checks, and writing it without any. */
export async function copySection(bench: Bench, size: number): Promise<Report> {
  const { tools, tls } = bench;
  say(`filling etcd with ${nameOfSize(size)}`);
  const room = roomIn(bench.memory, 'copy');
  const source = await Source.start({ tools, tls, dir: join(room, 'etcd'), size });
  const [first, second] = [
    await BlobTarget.start('https', join(room, 'first'), tls),
    await BlobTarget.start('https', join(room, 'second'), tls),
  ];
  const file = join(room, 'snapshot.db');
  await source.saveTo(file);
  await Promise.all([first.clear(), second.clear()]);
  const [env = '', ...args] = worker('backup');
  await mustRun(env, args, { ...source.cluster.variables, ...first.variables });
  await source.stop();
  const [name = ''] = await first.names();
  const { NODE_EXTRA_CA_CERTS: ca = '', ...place } = second.variables;
  const both = { ...first.variables, ...ofCopy(place), NODE_EXTRA_CA_CERTS: ca };
  const afterwards = async (): Promise<void> => second.clear();
  const costs = await interleave(bench, [
    { title: COPY, commands: () => [worker('copy')], variables: () => both, afterwards },
    { title: VERIFY, commands: () => [worker('verify', name)], variables: () => first.variables },
    { title: UPLOAD, commands: () => [program('upload', file)], variables: () => second.variables, afterwards },
  ]);
  await Promise.all([first.stop(), second.stop()]);
  rmSync(room, { recursive: true, force: true });

  const of = (title: string): readonly Cost[] => costs.get(title) ?? [];
  const walls = (title: string): number[] => of(title).map(({ wall }) => wall);
  const apart = walls(VERIFY).map((seconds, round) => seconds + (walls(UPLOAD)[round] ?? NaN));
  const rows = [COPY, VERIFY, UPLOAD].map((title) => [
    title,
    spread(walls(title)),
    spread(ratios(walls(title), apart)),
    spread(of(title).map(({ cpu }) => cpu)),
    spread(of(title).map(({ machine }) => machine)),
    Math.max(...of(title).map(({ rss }) => rss)).toFixed(0),
  ]);
  const columns = ['', 'wall s', 'ratio to verify + upload', 'CPU s', 'with servers', 'peak RSS MiB'];
  return {
    tables: [markdown(`A second copy of ${nameOfSize(size)}, between two sinks over TLS`, columns, rows)],
    targets: [],
  };
}
