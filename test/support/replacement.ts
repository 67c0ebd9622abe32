import { join } from 'node:path';
import type { Test } from 'tap';
import { runCommand } from './command.ts';
import type { EtcdCluster } from './etcd.ts';
import { until } from './until.ts';
import { errorOf } from './worker.ts';

export interface Result {
  readonly state: string;
  readonly summary: string;
  readonly backup: string | null;
  readonly removed: { readonly id: string | null; readonly name: string | null } | null;
  readonly added: { readonly id: string; readonly name: string; readonly peerURLs: string[] };
  readonly settings: Record<string, string>;
}

/** One replacement, as an operator asks for it again and again until it is done. */
export class Replacing {
  readonly name: string;
  readonly peer: string;
  readonly dataDir: string;
  readonly variables: Record<string, string>;
  readonly #cluster: EtcdCluster;
  readonly #failed: string;

  constructor(cluster: EtcdCluster, failed: string, dir: string, peer: string, more: Record<string, string> = {}) {
    this.#cluster = cluster;
    this.#failed = failed;
    this.name = `${failed}-replace-0`;
    this.peer = peer;
    this.dataDir = join(dir, this.name);
    this.variables = { ...cluster.variables, ...more };
  }

  args(...more: string[]): string[] {
    const named = ['--name', this.name, '--peer-urls', this.peer, '--data-dir', this.dataDir];
    return ['replace-member', this.#failed, ...named, ...more];
  }

  /** Runs it to an end that must be a good one. */
  async run(t: Test, ...more: string[]): Promise<Result> {
    const { code, stdout, stderr } = await runCommand(this.args('--json', '--yes', ...more), this.variables);
    t.equal(code, 0, stderr);
    return JSON.parse(stdout) as Result;
  }

  /** The new member's etcd is started, the command is run again, and the cluster is whole, with equal data. */
  async finish(t: Test, settings: Record<string, string>, ...more: string[]): Promise<void> {
    const endpoint = await this.#cluster.join(settings);
    const { state, added } = await this.run(t, ...more);
    t.equal(state, 'done');
    t.equal(added.name, this.name);
    await this.verify(t, endpoint);
  }

  /** The new member votes and is healthy, its data is that of the others, the failed one is gone. */
  async verify(t: Test, endpoint: string): Promise<void> {
    const members = await membersOf(this.#cluster);
    t.match(members.get(this.name), /, started, .*(, false)?$/);
    t.notMatch(members.get(this.name), /, true$/, 'it is no learner');
    t.notOk(members.has(this.#failed));
    const read = async (from: string): Promise<string> =>
      this.#cluster.etcdctlAt(from, 'get', '--prefix', '/registry', '--consistency', 's');
    await this.#cluster.etcdctlAt(endpoint, 'put', '/registry/after', this.name);
    const held = await read(endpoint);
    t.ok(held.length > 1000);
    for (const other of this.#cluster.runningEndpoints) {
      await until(async () => (await read(other)) === held);
      t.pass('data is equal');
    }
    const health = await runCommand(['health'], { ...this.variables, SNAPSHOT_ETCD_ENDPOINTS: endpoint });
    t.equal(health.code, 0, health.stderr);
  }
}

/** The lines of `etcdctl member list` by name; the name of a member that never started is empty. */
export async function membersOf(cluster: EtcdCluster): Promise<Map<string, string>> {
  const lines = (await cluster.etcdctl('member', 'list')).trim().split('\n');
  return new Map(lines.map((line) => [line.split(', ')[2] ?? '', line]));
}

/** The command is refused with this code and sentence, the members are the same as before, and the cluster still works. */
export async function refused(
  t: Test,
  cluster: EtcdCluster,
  args: readonly string[],
  code: number,
  message: RegExp,
  { variables = cluster.variables, hasQuorum = true } = {},
): Promise<void> {
  // Without quorum there is no list to be had from etcdctl, and nothing can change.
  const list = async (): Promise<string> => (hasQuorum ? cluster.etcdctl('member', 'list') : '');
  const before = await list();
  const ended = await runCommand(args, variables);
  t.equal(ended.code, code, `${args.join(' ')}: ${ended.stderr}`);
  t.match(errorOf(ended).message, message);
  t.ok(errorOf(ended).hint);
  t.equal(await list(), before, 'the members are the same');
  if (hasQuorum) await cluster.assertWorking();
}
