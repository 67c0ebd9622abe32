import { copyFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { AksNode } from '../support/aks-node.ts';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority } from '../support/certificates.ts';
import { etcdFor, type EtcdTools } from '../support/etcd.ts';

import { temporaryFolder, type Variables } from '../support/process.ts';
import type { Plan } from '../support/restored.ts';
import { until } from '../support/until.ts';

interface Listed {
  readonly id: string;
  readonly name: string;
  readonly learner: boolean;
  readonly health: string;
}

interface Backup {
  readonly name: string;
  readonly revision: number;
  readonly members: object[];
  readonly findings: string[];
}

const dir = temporaryFolder('life');
const authority = await makeAuthority(join(dir, 'certs'));
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());

/** Hosts have mounts of their own. */
const skip = process.getuid?.() === 0 ? false : 'needs root';

/** A cluster of three hosts, as its operator sees it: by the commands of this program and by etcdctl. */
class Life {
  readonly hosts: AksNode[];
  readonly #t: Test;
  readonly #tools: EtcdTools;
  readonly #variables: Variables;
  #previousClusterIds = '';
  #written = 0;

  private constructor(t: Test, tools: EtcdTools, hosts: AksNode[], container: string) {
    this.#t = t;
    this.#tools = tools;
    this.hosts = hosts;
    this.#variables = {
      ...azurite.variables(container),
      SNAPSHOT_ETCD_CA_FILE: authority.client.ca,
      SNAPSHOT_ETCD_CERT_FILE: authority.client.cert,
      SNAPSHOT_ETCD_KEY_FILE: authority.client.key,
      SNAPSHOT_LOG_FORMAT: 'json',
      ETCDCTL_API: '3',
    };
  }

  static async begin(t: Test, tools: EtcdTools, size = 3): Promise<Life> {
    const name = `life-${tools.version}-${t.name}`.replaceAll(/\W+/g, '-').toLowerCase().slice(0, 60);
    const names = Array.from({ length: size }, (_, index) => `m${index + 1}`);
    const hosts = await Promise.all(names.map(async (host) => AksNode.make(host, join(dir, name), tools, authority)));
    t.teardown(async () => Promise.all(hosts.map(async (host) => host.kill())));
    const initialCluster = hosts.map((host) => `${host.name}=${host.peer}`).join();
    for (const host of hosts) {
      await host.configure({
        name: host.name,
        'initial-cluster': initialCluster,
        'initial-cluster-token': name,
      });
    }
    await Promise.all(hosts.map(async (host) => host.mustRun('systemctl start etcd')));
    const life = new Life(t, tools, hosts, name.replace(/-$/, ''));
    await life.healthy();
    return life;
  }

  get variables(): Variables {
    const previous = this.#previousClusterIds;
    return {
      ...this.#variables,
      SNAPSHOT_ETCD_ENDPOINTS: this.hosts.map(({ client }) => client).join(),
      ...(previous === '' ? {} : { SNAPSHOT_PREVIOUS_CLUSTER_IDS: previous }),
    };
  }

  get #first(): AksNode {
    const [first] = this.hosts;
    if (first === undefined) throw new Error('no host');
    return first;
  }

  host(name: string): AksNode {
    const host = this.hosts.find((candidate) => candidate.name === name);
    if (host === undefined) throw new Error(`no host ${name}`);
    return host;
  }

  /** Runs etcdctl with these words, once for each line. */
  async etcdctl(...lines: string[]): Promise<string> {
    const { ca, cert, key } = authority.client;
    const host = this.#first;
    const flags = `--command-timeout 20s --endpoints ${host.client} --cacert ${ca} --cert ${cert} --key ${key}`;
    const commands = lines.map((line) => `${this.#tools.etcdctl} ${flags} ${line}`);
    return host.mustRun(commands.join(' && '), { ETCDCTL_API: '3' });
  }

  async healthy(): Promise<void> {
    await until(async () => (await this.#first.shell('etcd-snapshot health', this.variables)).code === 0);
  }

  async members(): Promise<Listed[]> {
    const { stdout } = await this.#first.shell('etcd-snapshot health --json', this.variables);
    return (JSON.parse(stdout) as { members: Listed[] }).members;
  }

  /** Writes some keys more; `verify` demands all of them afterwards. */
  async write(): Promise<void> {
    await this.etcdctl(...Array.from({ length: 10 }, () => `put /registry/key-${this.#written++} value`));
  }

  async backup(): Promise<Backup> {
    return JSON.parse(await this.#first.mustRun('etcd-snapshot backup --json', this.variables)) as Backup;
  }

  async verify(voters: readonly string[]): Promise<void> {
    await this.healthy();
    const keys = (await this.etcdctl('get /registry/key- --prefix --keys-only'))
      .split('\n')
      .filter((key) => key !== '');
    this.#t.equal(keys.length, this.#written, 'every key is there');
    const names = (await this.members()).filter(({ learner }) => !learner).map(({ name }) => name);
    this.#t.strictSame(names.toSorted(), voters, 'the voters');
  }

  /** All members lose all of their data, and what the plan prints is run on each host as it stands. */
  async loseAllAndRestore(): Promise<Plan> {
    await Promise.all(this.hosts.map(async (host) => host.destroy()));
    const plan = JSON.parse(
      await this.#first.mustRun('etcd-snapshot restore --plan --json --output plan.json', this.variables),
    ) as Plan;
    const written = this.#first.file('plan.json');
    for (const host of this.hosts.slice(1)) await copyFile(written, host.file('plan.json'));
    for (const { on, title, run } of plan.steps) {
      this.#t.comment(`${title} (${on})`);
      await this.#follow(
        on,
        run.filter((line) => !line.startsWith('#')),
      );
    }
    for (const host of this.hosts) await rm(host.file('plan.json'));
    this.#previousClusterIds = [this.#previousClusterIds, plan.clusterId].filter((id) => id !== '').join();
    return plan;
  }

  async #follow(on: string, lines: readonly string[]): Promise<void> {
    const words = on.split(/[ ,]+/);
    const named = this.hosts.filter(({ name }) => words.includes(name));
    const hosts = named.length > 0 ? named : [this.#first];
    for (const line of lines) {
      // The step says to go on only when it is so.
      if (line === 'etcd-snapshot health') await this.healthy();
      else await Promise.all(hosts.map(async (host) => host.mustRun(line, this.variables)));
    }
  }

  /** `etcdctl member …`, again until etcd allows it: it wants all members to have been connected for five seconds. */
  async change(line: string): Promise<string> {
    let printed = '';
    await until(async () => {
      try {
        printed = await this.etcdctl(line);
        return true;
      } catch (error) {
        if (!String(error).includes('unhealthy cluster')) throw error;
        return false;
      }
    });
    return printed;
  }

  /** A member gets another name: etcd tells the others when it starts. */
  async rename(from: string, to: string): Promise<void> {
    const host = this.host(from);
    await host.mustRun('systemctl stop etcd');
    await host.configure({ name: to });
    await host.mustRun('systemctl start etcd');
    await until(async () => (await this.members()).some(({ name }) => name === to));
    host.name = to;
    await this.healthy();
  }

  /** An empty host joins as a learner. */
  async addLearner(on: string, name: string): Promise<void> {
    const host = this.host(on);
    const added = await this.change(`member add ${name} --learner --peer-urls ${host.peer}`);
    await host.configure({
      name,
      'initial-cluster': /ETCD_INITIAL_CLUSTER="([^"]+)"/.exec(added)?.[1] ?? '',
      'initial-cluster-state': 'existing',
    });
    await host.mustRun('systemctl start etcd');
    host.name = name;
    await this.healthy();
  }

  /** The host of a failed member gets a new one of another name, in the directory that the program proposes. */
  async replace(failed: string, name: string): Promise<void> {
    const host = this.host(failed);
    await host.destroy();
    const line = `etcd-snapshot replace-member ${failed} --name ${name} --peer-urls ${host.peer} --yes`;
    let printed = '';
    // While the others elect a leader there is no quorum, and the program refuses.
    await until(async () => {
      const { code, stdout } = await this.#first.shell(line, this.variables);
      printed = stdout;
      return code === 0;
    });
    const [, flags = ''] = /^ +(--name .*--initial-cluster-state existing.*)$/m.exec(printed) ?? [];
    const settings = Object.fromEntries(
      [...flags.matchAll(/--(\S+) (\S+)/g)].map(([, flag = '', value = '']) => [flag, value]),
    );
    this.#t.match(settings['data-dir'], /^\/var\/lib\/etcddisk\/./, 'a directory of the layout');
    await host.configure(settings);
    await host.mustRun('systemctl start etcd');
    await this.#first.mustRun(`${line} --wait`, this.variables);
    host.name = name;
  }
}

t.jobs = 3;

for (const tools of etcdFor('the oldest and the newest')) {
  t.test(`etcd ${tools.version}: two disasters, with a replaced member between them`, { skip }, async (t) => {
    const life = await Life.begin(t, tools);
    await life.write();
    await life.backup();
    await life.loseAllAndRestore();
    await life.verify(['m1', 'm2', 'm3']);

    await life.write();
    await life.replace('m3', 'm3b');
    await life.backup();
    const { members } = await life.loseAllAndRestore();
    t.strictSame(members.map(({ name }) => name).toSorted(), ['m1', 'm2', 'm3b']);
    await life.verify(['m1', 'm2', 'm3b']);
    await life.write();
    const { findings } = await life.backup();
    // etcd 3.4 leaves the members of the old cluster in the database, and knows better elsewhere.
    if (tools.version.startsWith('3.4.')) t.match(findings, [/also lists members that are not in the cluster/]);
    else t.strictSame(findings, []);
  });
}

for (const tools of etcdFor('the newest')) {
  t.test(`etcd ${tools.version}: after a removal and a new name, with a learner`, { skip }, async (t) => {
    const life = await Life.begin(t, tools, 4);
    await life.write();
    const removed = (await life.members()).find(({ name }) => name === 'm4')?.id;
    await life.change(`member remove ${removed}`);
    await life.host('m4').destroy();
    await life.rename('m2', 'm2-renamed');
    await life.addLearner('m4', 'm5');
    const { members } = await life.backup();
    t.equal(members.length, 4);
    const plan = await life.loseAllAndRestore();
    t.strictSame(
      plan.members.map(({ name }) => name),
      ['m1', 'm2-renamed', 'm3'],
    );
    t.match(plan.leftOut, [{ name: 'm5', reason: /learner/ }]);
    await life.verify(['m1', 'm2-renamed', 'm3']);
  });
}
