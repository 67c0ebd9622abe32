import { accessSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { execFileSync } from 'node:child_process';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import { delimiter, join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import type { Authority } from './certificates.ts';
import { Daemon, freePort, mustRun, run } from './process.ts';
import { until } from './until.ts';

/** The programs of one etcd version. 3.4 has no etcdutl: its etcdctl does that work. */
export interface EtcdTools {
  readonly version: string;
  readonly etcd: string;
  readonly etcdctl: string;
  readonly snapshotTool: string;
}

const BUILT = join(import.meta.dirname, '..', 'tools', 'bin');

/** Every version on this machine: what was built under test/tools, and what the PATH has. */
export function findEtcd(): EtcdTools[] {
  const built = listDirectory(BUILT)
    .filter((name) => /^\d/.test(name))
    .map((version) => join(BUILT, version));
  const onPath = (process.env['PATH'] ?? '').split(delimiter).find((dir) => exists(join(dir, 'etcd')));
  const found = [...built, ...(onPath === undefined ? [] : [onPath])].map((dir) => {
    const etcd = join(dir, 'etcd');
    const version =
      /etcd Version: (\S+)/.exec(execFileSync(etcd, ['--version'], { encoding: 'utf8' }))?.[1] ?? 'unknown';
    const etcdctl = join(dir, 'etcdctl');
    const etcdutl = join(dir, 'etcdutl');
    return { version, etcd, etcdctl, snapshotTool: exists(etcdutl) ? etcdutl : etcdctl };
  });
  if (found.length === 0) throw new Error('etcd is neither on the PATH nor under test/tools/bin');
  const byVersion = new Map(found.map((tools) => [tools.version, tools]));
  return [...byVersion.values()].toSorted((a, b) => a.version.localeCompare(b.version, 'en', { numeric: true }));
}

/** The versions for a long scenario: the newest, with the oldest before it where they differ; in `npm run test:slow` all. */
export function etcdFor(scenario: 'the newest' | 'the oldest and the newest'): EtcdTools[] {
  const found = findEtcd();
  if (process.env['EVERY_ETCD'] !== undefined) return found;
  return scenario === 'the newest' ? found.slice(-1) : found.filter((_, i) => i === 0 || i === found.length - 1);
}

export interface ClusterOptions {
  readonly tools: EtcdTools;
  readonly dir: string;
  readonly size?: number;
  /** TLS everywhere, with client certificates required. */
  readonly tls?: Authority;
  /** The address that they listen on: 127.0.0.1 by default. */
  readonly host?: string;
  /** More flags for every member. */
  readonly flags?: readonly string[];
}

interface Member {
  readonly name: string;
  readonly endpoint: string;
  readonly start: (version: EtcdTools, isReady?: () => Promise<boolean>, flags?: readonly string[]) => Promise<Daemon>;
  daemon: Daemon;
}

/** A cluster of real servers on loopback. */
export class EtcdCluster {
  readonly tools: EtcdTools;
  readonly members: readonly Member[];
  readonly #tls: Authority | undefined;
  readonly #joined: Daemon[] = [];

  private constructor({ tools, tls }: ClusterOptions, members: readonly Member[]) {
    this.tools = tools;
    this.members = members;
    this.#tls = tls;
  }

  static async start(options: ClusterOptions): Promise<EtcdCluster> {
    const { dir, tls, tools, size = 1, host = '127.0.0.1', flags = [] } = options;
    const scheme = tls === undefined ? 'http' : 'https';
    const plans = await Promise.all(
      Array.from({ length: size }, async (_, index) => ({
        name: `m${index + 1}`,
        client: `${scheme}://${host}:${await freePort()}`,
        peer: `${scheme}://${host}:${await freePort()}`,
      })),
    );
    const initialCluster = plans.map(({ name, peer }) => `${name}=${peer}`).join(',');
    const started = await Promise.allSettled(
      plans.map(async ({ name, client, peer }) => {
        const args = [
          ...['--name', name, '--data-dir', join(dir, name)],
          ...['--listen-client-urls', client, '--advertise-client-urls', client],
          ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
          ...['--initial-cluster', initialCluster, '--initial-cluster-token', dir],
          ...(tls === undefined ? [] : tlsFlags(tls)),
          ...flags,
        ];
        // With this flag the client URL serves gRPC only.
        const http = flags.indexOf('--listen-client-http-urls');
        const ready = async (): Promise<boolean> => isHealthy((http >= 0 && flags[http + 1]) || client, tls);
        const start: Member['start'] = async (version, isReady = ready, more = []) =>
          Daemon.start(version.etcd, [...args, ...unsynced(version), ...more], isReady);
        return { name, endpoint: client, start, daemon: await start(tools) };
      }),
    );
    const members = started.flatMap((member) => (member.status === 'fulfilled' ? [member.value] : []));
    const cluster = new EtcdCluster(options, members);
    const failed = started.find(({ status }) => status === 'rejected');
    if (failed?.status !== 'rejected') return cluster;
    await cluster.stop();
    throw failed.reason;
  }

  get endpoints(): string {
    return this.members.map(({ endpoint }) => endpoint).join(',');
  }

  /** The worker's variables that reach this cluster. */
  get variables(): Record<string, string> {
    const client = this.#tls?.client;
    return {
      SNAPSHOT_ETCD_ENDPOINTS: this.endpoints,
      ...(client === undefined
        ? {}
        : {
            SNAPSHOT_ETCD_CA_FILE: client.ca,
            SNAPSHOT_ETCD_CERT_FILE: client.cert,
            SNAPSHOT_ETCD_KEY_FILE: client.key,
          }),
    };
  }

  /** Runs etcdctl against the first running member. */
  async etcdctl(...args: string[]): Promise<string> {
    return this.etcdctlAt((this.members.find(({ daemon }) => daemon.running) ?? this.#first).endpoint, ...args);
  }

  async etcdctlAt(endpoint: string, ...args: string[]): Promise<string> {
    return mustRun(this.tools.etcdctl, [...clientFlags(endpoint, this.#tls), ...args], API);
  }

  /** Puts `count` keys of `valueSize` random-looking bytes each, in batches of one transaction. */
  async fill(count: number, valueSize: number, prefix = '/registry/pods/default/pod-'): Promise<void> {
    const batch = Math.max(1, Math.min(100, Math.floor(1_000_000 / valueSize)));
    for (let from = 0; from < count; from += batch) {
      const puts = Array.from({ length: Math.min(batch, count - from) }, (_, index) => ({
        requestPut: {
          key: Buffer.from(`${prefix}${from + index}`).toString('base64'),
          value: filler(from + index, valueSize).toString('base64'),
        },
      }));
      await this.gateway('/v3/kv/txn', { success: puts });
    }
  }

  /** A URL of this cluster's scheme on a free port. */
  async freeUrl(): Promise<string> {
    return `${this.#tls === undefined ? 'http' : 'https'}://127.0.0.1:${await freePort()}`;
  }

  /** Adds and starts a learner; returns its endpoint. */
  async addLearner(dir: string): Promise<string> {
    const peer = await this.freeUrl();
    const added = await this.changeMembers('add', 'learner', '--learner', '--peer-urls', peer);
    return this.join({
      name: 'learner',
      'data-dir': dir,
      'initial-cluster': /ETCD_INITIAL_CLUSTER="([^"]+)"/.exec(added)?.[1] ?? '',
      'initial-cluster-state': 'existing',
      'initial-advertise-peer-urls': peer,
      'listen-peer-urls': peer,
    });
  }

  /** Starts the etcd of a member that was added, with these settings by the names of etcd's flags; returns its endpoint. */
  async join(settings: Readonly<Record<string, string>>): Promise<string> {
    const client = await this.freeUrl();
    const args = [
      ...Object.entries(settings).flatMap(([flag, value]) => [`--${flag}`, value]),
      ...['--listen-client-urls', client, '--advertise-client-urls', client],
      ...(this.#tls === undefined ? [] : tlsFlags(this.#tls)),
    ];
    const flags = [...args, ...unsynced(this.tools)];
    this.#joined.push(await Daemon.start(this.tools.etcd, flags, async () => accepts(client)));
    return client;
  }

  /** `etcdctl member …`, again until etcd allows it: it wants all members to have been connected for five seconds. */
  async changeMembers(...args: string[]): Promise<string> {
    let printed = '';
    await until(async () => {
      const [endpoint = ''] = this.runningEndpoints;
      const command = [...clientFlags(endpoint, this.#tls), 'member', ...args];
      const { code, stdout, stderr } = await run(this.tools.etcdctl, command, API);
      if (code !== 0 && !/unhealthy cluster/.test(stderr)) throw new Error(`${args.join(' ')}: ${stderr}`);
      printed = stdout;
      return code === 0;
    });
    return printed;
  }

  /** The name of the member that leads. */
  async leader(): Promise<string> {
    for (const { name, endpoint } of this.members) {
      const status = await this.etcdctlAt(endpoint, 'endpoint', 'status', '-w', 'fields');
      const [, self, leader] = /"MemberID" : (\d+)[^]*"Leader" : (\d+)/.exec(status) ?? [];
      if (self !== undefined && self === leader) return name;
    }
    throw new Error('nobody leads');
  }

  /** Stops a member for good, and waits until the others work without it. */
  async loseMember(name: string): Promise<void> {
    await this.stopMember(name);
    await this.assertWorking();
  }

  /** Waits until something can be written, as after an election. */
  async assertWorking(): Promise<void> {
    const [endpoint = ''] = this.runningEndpoints;
    const put = [...clientFlags(endpoint, this.#tls), 'put', '/registry/still', 'works'];
    await until(async () => (await run(this.tools.etcdctl, put, API)).code === 0);
  }

  /** Waits until a member that is left without quorum has noticed that it has no leader. */
  async losesLeader(name: string): Promise<void> {
    const { endpoint } = this.member(name);
    await until(async () => {
      const status = [...clientFlags(endpoint, this.#tls), 'endpoint', 'status', '-w', 'fields'];
      return /"Leader" : 0\b/.test((await run(this.tools.etcdctl, status, API)).stdout);
    });
  }

  /** Of the members that it began with. */
  get runningEndpoints(): string[] {
    return this.members.filter(({ daemon }) => daemon.running).map(({ endpoint }) => endpoint);
  }

  /** From now on only root may ask, by this password or by a certificate in its name. */
  async enableAuthentication(password: string): Promise<void> {
    await this.etcdctl('user', 'add', `root:${password}`);
    await this.etcdctl('user', 'grant-role', 'root', 'root');
    await this.etcdctl('auth', 'enable');
  }

  async stopMember(name: string): Promise<void> {
    await this.member(name).daemon.stop();
  }

  /**
   * Starts a member that was stopped, with its data.
   * @param version of the server, for an upgrade
   * @param asksHealth false where authentication keeps etcdctl from asking: then a port that accepts will do
   * @param flags take precedence over those that it had
   */
  async startMember(
    name: string,
    version = this.tools,
    asksHealth = true,
    flags: readonly string[] = [],
  ): Promise<void> {
    const member = this.member(name);
    const isReady = asksHealth ? undefined : async (): Promise<boolean> => accepts(member.endpoint);
    member.daemon = await member.start(version, isReady, flags);
  }

  member(name: string): Member {
    const member = this.members.find((candidate) => candidate.name === name);
    if (member === undefined) throw new Error(`no member ${name}`);
    return member;
  }

  async stop(): Promise<void> {
    const daemons = [...this.members.map(({ daemon }) => daemon), ...this.#joined];
    await Promise.all(daemons.map(async (daemon) => daemon.stop()));
  }

  get #first(): Member {
    const [member] = this.members;
    if (member === undefined) throw new Error('no member');
    return member;
  }

  /** etcd's JSON gateway takes large transactions faster than a process per key. */
  async gateway(path: string, body: object): Promise<void> {
    const { endpoint } = this.members.find(({ daemon }) => daemon.running) ?? this.#first;
    // Before 3.4 it had another name.
    const url = `${endpoint}${this.tools.version.startsWith('3.3.') ? path.replace('/v3/', '/v3beta/') : path}`;
    const { status } = await call(url, this.#tls, body);
    if (status !== 200) throw new Error(`HTTP ${status}`);
  }
}

/** A request over HTTP: with a body it is a POST. */
async function call(url: string, tls: Authority | undefined, body?: object): Promise<{ status: number; text: string }> {
  const files = tls && {
    ca: await readFile(tls.client.ca),
    cert: await readFile(tls.client.cert),
    key: await readFile(tls.client.key),
  };
  return new Promise((resolve, reject) => {
    const request = tls === undefined ? httpRequest : httpsRequest;
    const options = { method: body === undefined ? 'GET' : 'POST', timeout: 10_000, ...files };
    const sent = request(url, options, (response) => {
      textOf(response).then((text) => resolve({ status: response.statusCode ?? 0, text }), reject);
    });
    sent.on('timeout', () => sent.destroy(new Error('no answer in time')));
    sent.on('error', reject).end(body && JSON.stringify(body));
  });
}

/** Whether a member serves linearizable reads: asked over HTTP, for a process of etcdctl costs far more. */
async function isHealthy(endpoint: string, tls: Authority | undefined): Promise<boolean> {
  const { text } = await call(`${endpoint}/health`, tls).catch(() => ({ text: '' }));
  return /"health":"?true/.test(text);
}

/** The flag with which etcd does not wait for a disk, where it has it: no test pulls a plug. */
function unsynced({ version }: EtcdTools): string[] {
  return /^3\.[34]\./.test(version) ? [] : ['--unsafe-no-fsync'];
}

async function accepts(endpoint: string): Promise<boolean> {
  const { hostname, port } = new URL(endpoint);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

/** Snapshots of a real server, each of at least so many bytes, the smallest first. */
export async function takeSnapshots(dir: string, sizes: readonly number[]): Promise<Buffer[]> {
  const tools = findEtcd().at(-1);
  if (tools === undefined) throw new Error('no etcd');
  const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
  const file = join(dir, 'taken.db');
  const taken: Buffer[] = [];
  try {
    for (const [index, size] of sizes.entries()) {
      await cluster.fill(Math.ceil((size - (sizes[index - 1] ?? 0)) / 50_000), 50_000);
      await cluster.etcdctl('snapshot', 'save', file);
      taken.push(await readFile(file));
    }
    return taken;
  } finally {
    await cluster.stop();
  }
}

/** Restores a snapshot with etcd's own tool, boots a server on it, and counts its keys. */
export async function restoreAndCount(tools: EtcdTools, file: string, dir: string): Promise<number> {
  const peer = `http://127.0.0.1:${await freePort()}`;
  const client = `http://127.0.0.1:${await freePort()}`;
  const member = ['--name', 'restored', '--data-dir', dir];
  const plan = ['--initial-cluster', `restored=${peer}`, '--initial-advertise-peer-urls', peer];
  await mustRun(tools.snapshotTool, ['snapshot', 'restore', file, ...member, ...plan], API);
  const urls = ['--listen-client-urls', client, '--advertise-client-urls', client, '--listen-peer-urls', peer];
  const isReady = async (): Promise<boolean> => isHealthy(client, undefined);
  const daemon = await Daemon.start(tools.etcd, [...member, ...urls, ...plan, ...unsynced(tools)], isReady);
  try {
    const query = [
      ...clientFlags(client, undefined),
      'get',
      '',
      '--prefix',
      '--keys-only',
      '--limit',
      '1',
      '-w',
      'json',
    ];
    return (JSON.parse(await mustRun(tools.etcdctl, query, API)) as { count: number }).count;
  } finally {
    await daemon.stop();
  }
}

/** 3.4 and older look at this variable; later ones ignore it. */
const API = { ETCDCTL_API: '3' };

function clientFlags(endpoint: string, tls: Authority | undefined): string[] {
  const flags = ['--endpoints', endpoint, '--command-timeout', '20s'];
  if (tls === undefined) return flags;
  return [...flags, '--cacert', tls.client.ca, '--cert', tls.client.cert, '--key', tls.client.key];
}

function tlsFlags({ server }: Authority): string[] {
  const files = (prefix: string): string[] => [
    `--${prefix}client-cert-auth`,
    ...[`--${prefix}trusted-ca-file`, server.ca],
    ...[`--${prefix}cert-file`, server.cert],
    ...[`--${prefix}key-file`, server.key],
  ];
  return [...files(''), ...files('peer-')];
}

/** Bytes that depend on the index only and do not repeat early. */
function filler(index: number, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let at = 0, state = index + 1; at < size; at++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[at] = state >>> 16;
  }
  return bytes;
}

function listDirectory(path: string): string[] {
  try {
    return readdirSync(path).filter((name) => /^\d+\.\d+\.\d+$/.test(name));
  } catch {
    return [];
  }
}

function exists(path: string): boolean {
  try {
    accessSync(path);
    return true;
  } catch {
    return false;
  }
}
