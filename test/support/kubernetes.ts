import { spawnSync } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type Authority, makeAuthority } from './certificates.ts';
import { EtcdCluster, findEtcd } from './etcd.ts';
import { findJudge } from './judges.ts';
import { keepKernelSettings, KubernetesNode } from './kubernetes-node.ts';
import { Daemon, type Finished, freePort, mustRun, run, temporaryFolder, type Variables } from './process.ts';
import { until } from './until.ts';

/** This machine, to the nodes: an address of its loopback interface that only they and it can reach. */
export const HOST = '198.18.0.1';

const NEEDED = [
  'kubernetes-node',
  'pause',
  'kubectl',
  'helm',
  'containerd',
  'ctr',
  'runc',
  'unshare',
  'nsenter',
  'ip',
  'buildah',
];

/** False, or why no Kubernetes can run here. A release demands it by REQUIRED_KUBERNETES. */
export function withoutKubernetes(): string | false {
  const reason = whyNot();
  if (reason !== false && process.env['REQUIRED_KUBERNETES']) throw new Error(reason);
  return reason;
}

function whyNot(): string | false {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'Kubernetes needs root on Linux';
  const capabilities = BigInt(`0x${/^CapEff:\s*(\w+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`);
  // CAP_NET_ADMIN and CAP_SYS_ADMIN.
  for (const bit of [12n, 21n])
    if ((capabilities & (1n << bit)) === 0n) return 'Kubernetes needs all of what root may do';
  if (!existsSync('/sys/fs/cgroup/cgroup.controllers') && !existsSync('/sys/fs/cgroup/memory/cgroup.procs')) {
    return 'there are no cgroups here';
  }
  if (!existsSync('/dev/kmsg')) return 'there is no /dev/kmsg here';
  if (!existsSync('/usr/lib/cni/bridge'))
    return 'there are no CNI plugins in /usr/lib/cni (containernetworking-plugins)';
  const missing = NEEDED.filter((name) => findJudge(name) === undefined);
  return missing.length > 0 && `there is no ${missing.join(', ')} here (test/tools/build-kubernetes.sh)`;
}

function removeAddress(): void {
  spawnSync('ip', ['address', 'delete', `${HOST}/32`, 'dev', 'lo']);
}

/** A control plane on this machine, whose etcd is the one that is backed up, and its nodes. */
export class Kubernetes {
  readonly dir: string;
  readonly authority: Authority;
  readonly etcd: EtcdCluster;
  readonly kubeconfig: string;
  readonly #images: readonly string[];
  readonly #daemons = new Map<string, Daemon>();
  readonly #nodes = new Map<string, KubernetesNode>();
  readonly #tokens: Readonly<Record<string, string>>;
  readonly #port: number;
  readonly #restoreKernel = keepKernelSettings();

  private constructor(dir: string, authority: Authority, etcd: EtcdCluster, port: number, images: readonly string[]) {
    this.dir = dir;
    this.authority = authority;
    this.etcd = etcd;
    this.#port = port;
    this.#images = images;
    const token = (): string => randomBytes(16).toString('hex');
    this.#tokens = { admin: token(), 'kube-controller-manager': token(), 'kube-scheduler': token() };
    this.kubeconfig = this.#writeKubeconfig('admin', this.#tokens['admin'] ?? '');
  }

  /** @param images archives that every node imports */
  static async start(images: readonly string[]): Promise<Kubernetes> {
    const dir = temporaryFolder('kubernetes');
    const tools = findEtcd().at(-1);
    if (tools === undefined) throw new Error('no etcd');
    if (!(await mustRun('ip', ['address', 'show', 'dev', 'lo'])).includes(`${HOST}/32`)) {
      await mustRun('ip', ['address', 'add', `${HOST}/32`, 'dev', 'lo']);
    }
    process.prependListener('exit', removeAddress);
    const authority = await makeAuthority(join(dir, 'certs'), 'test CA', 365, [HOST]);
    const etcd = await EtcdCluster.start({ tools, dir: join(dir, 'etcd'), tls: authority, host: HOST });
    const kubernetes = new Kubernetes(dir, authority, etcd, await freePort(), images);
    try {
      await kubernetes.#startControlPlane();
      return kubernetes;
    } catch (error) {
      await kubernetes.stop();
      throw error;
    }
  }

  async addNode(name: string, dir?: string): Promise<KubernetesNode> {
    const number = this.#nodes.size + 1;
    const node = await KubernetesNode.start({
      ...{ number, name, program: findJudge('kubernetes-node') ?? '', clientCa: this.authority.ca },
      ...{ kubeconfig: this.#writeKubeconfig(name, this.#tokens['admin'] ?? ''), images: this.#images },
      ...(dir === undefined ? {} : { dir }),
    });
    this.#nodes.set(name, node);
    await this.#until(async () => this.isReady(name));
    await this.mustKubectl('label', 'node', name, 'node-role.kubernetes.io/control-plane=');
    return node;
  }

  node(name: string): KubernetesNode {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new Error(`no node ${name}`);
    return node;
  }

  /** What the control plane holds of a node, which is a little late. */
  async isReady(name: string): Promise<boolean> {
    return (await this.condition(name, 'Ready')) === 'True';
  }

  /** Such as DiskPressure: True, False or Unknown. */
  async condition(name: string, type: string): Promise<string | undefined> {
    const node = await this.get(`/api/v1/nodes/${name}`);
    return node?.status.conditions?.find((condition: { type: string }) => condition.type === type)?.status;
  }

  async kubectl(...args: string[]): Promise<Finished> {
    return run(findJudge('kubectl') ?? '', ['--kubeconfig', this.kubeconfig, ...args]);
  }

  async mustKubectl(...args: string[]): Promise<string> {
    return mustRun(findJudge('kubectl') ?? '', ['--kubeconfig', this.kubeconfig, ...args]);
  }

  /**
   * The API's answer to GET; undefined where there is no such object. Without kubectl, whose start takes a third of a second of a
   * processor each time.
   */
  // oxlint-disable-next-line typescript/no-explicit-any -- objects of any kind
  async get(path: string): Promise<any> {
    const ca = readFileSync(this.authority.ca);
    const authorization = `Bearer ${this.#tokens['admin']}`;
    const call = request(`https://${HOST}:${this.#port}${path}`, { ca, headers: { authorization } }).end();
    const [answer] = (await once(call, 'response')) as [IncomingMessage];
    const body = await text(answer);
    if (answer.statusCode === 404) return undefined;
    if (answer.statusCode !== 200) throw new Error(`GET ${path}: ${answer.statusCode} ${body}`);
    return JSON.parse(body);
  }

  /** Runs a script as an administrator would, with kubectl and helm in the PATH. */
  async shell(script: string, cwd: string, variables: Variables = {}): Promise<Finished> {
    const path = ['kubectl', 'helm'].map((name) => dirname(findJudge(name) ?? '')).join(':');
    const env = { KUBECONFIG: this.kubeconfig, PATH: `${path}:${process.env['PATH']}`, HOME: this.dir, ...variables };
    return run('bash', ['-euo', 'pipefail', '-c', script], env, cwd);
  }

  /** What the control plane and the nodes said last, for when something does not happen. */
  get output(): string {
    const daemons = [...this.#daemons].map(([name, daemon]) => `--- ${name}\n${daemon.output.slice(-3000)}`);
    return [...daemons, ...[...this.#nodes].map(([name, node]) => `--- ${name}\n${node.output}`)].join('\n');
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#nodes.values()].map(async (node) => node.stop()));
    await Promise.all([...this.#daemons.values()].map(async (daemon) => daemon.stop()));
    await this.etcd.stop();
    removeAddress();
    this.#restoreKernel();
  }

  async #startControlPlane(): Promise<void> {
    const { server, client, ca } = this.authority;
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const write = (name: string, content: string | Buffer): string => {
      writeFileSync(join(this.dir, name), content);
      return join(this.dir, name);
    };
    const publicFile = write('accounts.pub', publicKey.export({ type: 'spki', format: 'pem' }));
    const privateFile = write('accounts.key', privateKey.export({ type: 'pkcs8', format: 'pem' }));
    const users = Object.entries(this.#tokens).map(([name, token]) =>
      name === 'admin' ? `${token},admin,admin,system:masters` : `${token},system:${name},${name}`,
    );
    const flags = {
      ...{ 'etcd-servers': this.etcd.endpoints, 'etcd-cafile': ca },
      ...{ 'etcd-certfile': client.cert, 'etcd-keyfile': client.key },
      ...{ 'bind-address': HOST, 'advertise-address': HOST, 'secure-port': String(this.#port) },
      ...{ 'tls-cert-file': server.cert, 'tls-private-key-file': server.key, 'client-ca-file': ca },
      ...{ 'kubelet-client-certificate': client.cert, 'kubelet-client-key': client.key },
      'kubelet-preferred-address-types': 'InternalIP',
      ...{ 'service-account-issuer': 'https://kubernetes.test', 'service-account-key-file': publicFile },
      ...{ 'service-account-signing-key-file': privateFile, 'service-cluster-ip-range': '198.18.255.0/24' },
      ...{ 'token-auth-file': write('tokens.csv', `${users.join('\n')}\n`), 'authorization-mode': 'Node,RBAC' },
      ...{ 'allow-privileged': 'true', 'endpoint-reconciler-type': 'none' },
    };
    await this.#startProgram('kube-apiserver', flags);
    await this.#until(async () => (await this.kubectl('get', '--raw', '/readyz')).code === 0);
    const shared = { 'leader-elect': 'false', 'bind-address': '127.0.0.1' };
    const kubeconfig = (name: string): string => this.#writeKubeconfig(name, this.#tokens[name] ?? '');
    await this.#startProgram('kube-controller-manager', {
      ...shared,
      'secure-port': String(await freePort()),
      kubeconfig: kubeconfig('kube-controller-manager'),
      ...{ 'service-account-private-key-file': privateFile, 'root-ca-file': ca },
      'use-service-account-credentials': 'true',
      // Forty seconds by default; the kubelets report more often, too.
      'node-monitor-grace-period': '16s',
    });
    await this.#startProgram('kube-scheduler', {
      ...shared,
      'secure-port': String(await freePort()),
      kubeconfig: kubeconfig('kube-scheduler'),
    });
    // Every pod needs one, which the controller manager makes.
    await this.#until(async () => (await this.kubectl('get', 'serviceaccount', 'default')).code === 0);
  }

  async #startProgram(name: string, flags: Readonly<Record<string, string>>): Promise<void> {
    const args = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`);
    const program = findJudge('kubernetes-node') ?? '';
    this.#daemons.set(name, await Daemon.start(program, [name, ...args], async () => Promise.resolve(true)));
  }

  async #until(happened: () => Promise<boolean>): Promise<void> {
    await until(async () => {
      const dead = [...this.#daemons].find(([, daemon]) => !daemon.running);
      if (dead !== undefined) throw new Error(`${dead[0]} ended:\n${dead[1].output}`);
      return happened();
    });
  }

  #writeKubeconfig(name: string, token: string): string {
    const file = join(this.dir, `${name}.kubeconfig`);
    const cluster = { server: `https://${HOST}:${this.#port}`, 'certificate-authority': this.authority.ca };
    const config = {
      ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'test' },
      clusters: [{ name: 'test', cluster }],
      users: [{ name, user: { token } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: name } }],
    };
    writeFileSync(file, JSON.stringify(config));
    return file;
  }
}
