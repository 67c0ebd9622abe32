import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Daemon, type Finished, folderOnDisk, mustRun, run } from './process.ts';

/** What a node needs to know of its control plane. */
export interface NodeOptions {
  /** 1 … 250: its addresses follow from it. */
  readonly number: number;
  /** Also the host that it stands for, to other nodes. */
  readonly name: string;
  readonly program: string;
  readonly kubeconfig: string;
  readonly clientCa: string;
  /** Archives of images that are there without a registry. */
  readonly images: readonly string[];
  /** Instead of a folder on the disk of this machine: one on a file system that is as small as wanted. */
  readonly dir?: string;
}

/** The image of pods' first containers, which only wait. */
export const PAUSE_IMAGE = 'localhost/pause:test';
const SCRIPT = join(import.meta.dirname, 'kubernetes-node.sh');
const CGROUPS = '/sys/fs/cgroup';
const CGROUP = `etcd-snapshot-test-${process.pid}`;

// However a test ends: nodes are processes of ours and end with it, but their groups stay.
process.on('exit', () => removeCgroups());

/**
 * A node of Kubernetes on this machine: containerd, runc and a kubelet in namespaces of their own. Its address is 198.18.N.2, that
 * of this machine for it 198.18.N.1, those of its pods 198.19.N.0/24 (ranges that are for tests of networks).
 */
export class KubernetesNode {
  readonly name: string;
  readonly dir: string;
  readonly #options: NodeOptions;
  readonly #init: Daemon;
  #pid = 0;
  #containerd: Daemon | undefined;
  #kubelet: Daemon | undefined;

  private constructor(options: NodeOptions, dir: string, init: Daemon) {
    this.name = options.name;
    this.dir = dir;
    this.#options = options;
    this.#init = init;
  }

  static async start(options: NodeOptions): Promise<KubernetesNode> {
    const dir = options.dir ?? folderOnDisk(`node-${options.name}`);
    for (const name of ['etc/containerd', 'etc/cni', 'etc/kubelet', 'etc-work', 'lib', 'log']) {
      mkdirSync(join(dir, name), { recursive: true });
    }
    writeFileSync(join(dir, 'etc/containerd/config.toml'), CONTAINERD);
    writeFileSync(join(dir, 'etc/cni/10-bridge.conf'), JSON.stringify(cni(options.number)));
    const args = ['--mount', '--net', '--pid', '--fork', '--mount-proc', '--kill-child', SCRIPT, dir];
    const init = await Daemon.start('unshare', args, async () => existsSync(join(dir, 'ready')));
    const node = new KubernetesNode(options, dir, init);
    try {
      node.#pid = Number(readFileSync(`/proc/${init.pid}/task/${init.pid}/children`, 'utf8'));
      await node.#connect();
      await node.#startContainerd();
      await node.startKubelet();
      return node;
    } catch (error) {
      await node.stop();
      throw error;
    }
  }

  get address(): string {
    return `198.18.${this.#options.number}.2`;
  }

  /** Runs a program in the node, as root on the host would. */
  async run(...command: string[]): Promise<Finished> {
    return run('nsenter', [...this.#enter(), ...command]);
  }

  async mustRun(...command: string[]): Promise<string> {
    return mustRun('nsenter', [...this.#enter(), ...command]);
  }

  /** Of containerd and kubelet, the last lines. */
  get output(): string {
    return `${this.#containerd?.output.slice(-3000)}\n--- kubelet of ${this.name}\n${this.#kubelet?.output.slice(-6000)}`;
  }

  async startKubelet(): Promise<void> {
    const { kubeconfig, clientCa, name, program } = this.#options;
    for (const controller of controllers()) mkdirSync(join(CGROUPS, controller, this.#cgroup), { recursive: true });
    writeFileSync(join(this.dir, 'kubelet.yaml'), JSON.stringify(this.#kubeletConfiguration(clientCa)));
    const args = [
      ...['kubelet', '--config', join(this.dir, 'kubelet.yaml'), '--kubeconfig', kubeconfig],
      ...['--hostname-override', name, '--node-ip', this.address, '--cert-dir', '/var/lib/kubelet/pki'],
    ];
    // Its own process id within the node, for signals.
    const shell = `echo $$ >/run/kubelet.pid; exec "$@"`;
    this.#kubelet = await Daemon.start(
      'nsenter',
      [...this.#enter(), 'sh', '-c', shell, 'sh', program, ...args],
      async () => Promise.resolve(true),
    );
  }

  /** STOP: the node looks dead to Kubernetes, and its containers run on. CONT: it is back. */
  async signalKubelet(name: 'STOP' | 'CONT' | 'KILL'): Promise<void> {
    await this.mustRun('sh', '-c', `kill -${name} "$(cat /run/kubelet.pid)"`);
  }

  /** As when the power fails: everything in the node is gone at once. */
  async stop(): Promise<void> {
    await this.#init.stop();
    await Promise.all([this.#containerd?.stop(), this.#kubelet?.stop()]);
    removeCgroups(this.#cgroup);
  }

  get #cgroup(): string {
    return `${CGROUP}-${this.name}`;
  }

  #enter(): string[] {
    return ['--target', String(this.#pid), '--mount', '--net', '--pid', '--'];
  }

  async #connect(): Promise<void> {
    const { number } = this.#options;
    const link = `esnap${number}`;
    // The kernel takes its time to remove that of a node that ended.
    await run('ip', ['link', 'delete', link]);
    await mustRun('ip', [
      'link',
      'add',
      'name',
      link,
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      String(this.#pid),
    ]);
    await mustRun('ip', ['address', 'add', `198.18.${number}.1/30`, 'dev', link]);
    await mustRun('ip', ['link', 'set', link, 'up']);
    await mustRun('ip', ['route', 'add', `198.19.${number}.0/24`, 'via', this.address, 'dev', link, 'onlink']);
    await this.mustRun('ip', 'address', 'add', `${this.address}/30`, 'dev', 'eth0');
    await this.mustRun('ip', 'link', 'set', 'eth0', 'up');
    await this.mustRun('ip', 'route', 'add', 'default', 'via', `198.18.${number}.1`);
  }

  async #startContainerd(): Promise<void> {
    const ctr = ['ctr', '--namespace', 'k8s.io'];
    this.#containerd = await Daemon.start(
      'nsenter',
      [...this.#enter(), 'containerd', '--config', '/etc/containerd/config.toml'],
      async () => (await this.run(...ctr, 'version')).code === 0,
    );
    for (const image of this.#options.images) await this.mustRun(...ctr, 'images', 'import', image);
  }

  #kubeletConfiguration(clientCAFile: string): object {
    return {
      apiVersion: 'kubelet.config.k8s.io/v1beta1',
      kind: 'KubeletConfiguration',
      address: this.address,
      readOnlyPort: 0,
      authentication: {
        anonymous: { enabled: false },
        webhook: { enabled: false },
        x509: { clientCAFile },
      },
      authorization: { mode: 'AlwaysAllow' },
      cgroupDriver: 'cgroupfs',
      cgroupRoot: `/${this.#cgroup}`,
      containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
      failSwapOn: false,
      makeIPTablesUtilChains: false,
      // The one that it would take needs CAP_SYS_RESOURCE.
      oomScoreAdj: 0,
      // Its own copy: what would be taken for a dead node after forty seconds is one after sixteen.
      nodeStatusUpdateFrequency: '4s',
      nodeStatusReportFrequency: '4s',
      nodeLeaseDurationSeconds: 16,
      // As it is by default, but looked at more often.
      evictionPressureTransitionPeriod: '20s',
      serializeImagePulls: false,
    };
  }
}

/** The groups of one node, or of all nodes of this process. */
function removeCgroups(prefix = `${CGROUP}-`): void {
  for (const controller of readdirSync(CGROUPS)) {
    const dir = join(CGROUPS, controller);
    if (!statSync(dir).isDirectory()) continue;
    const ours = readdirSync(dir).filter((name) => name.startsWith(prefix));
    for (const name of ours) removeCgroup(join(dir, name), Date.now() + 2000);
  }
}

/** Kernel settings that a kubelet changes for the whole machine; puts back what they were, at the latest when this process ends. */
export function keepKernelSettings(): () => void {
  const names = ['vm/overcommit_memory', 'vm/panic_on_oom', 'kernel/panic', 'kernel/panic_on_oops'];
  const files = [...names, 'kernel/keys/root_maxkeys', 'kernel/keys/root_maxbytes'].map((name) => `/proc/sys/${name}`);
  const before = files.map((file) => [file, readFileSync(file, 'utf8')] as const);
  const restore = (): void => {
    for (const [file, value] of before) if (readFileSync(file, 'utf8') !== value) writeFileSync(file, value);
  };
  process.prependListener('exit', restore);
  return restore;
}

/** The hierarchies of version 1; the one of version 2 is the mount itself. */
function controllers(): string[] {
  if (existsSync(join(CGROUPS, 'cgroup.controllers'))) return ['.'];
  return readdirSync(CGROUPS).filter((name) => name !== 'unified');
}

/** Removes a group once the kernel has ended its processes, which takes a moment after they were killed. */
function removeCgroup(path: string, end: number): void {
  if (!existsSync(path)) return;
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) removeCgroup(join(path, entry.name), end);
  }
  for (;;) {
    try {
      rmdirSync(path);
      return;
    } catch {
      if (Date.now() > end) return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
    }
  }
}

function cni(number: number): object {
  return {
    cniVersion: '0.4.0',
    name: 'pods',
    type: 'bridge',
    bridge: 'cni0',
    isGateway: true,
    ipam: { type: 'host-local', ranges: [[{ subnet: `198.19.${number}.0/24` }]], routes: [{ dst: '0.0.0.0/0' }] },
  };
}

const CONTAINERD = `
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  # Without CAP_SYS_RESOURCE no process can be made less likely to be killed than this one.
  restrict_oom_score_adj = true
  sandbox_image = "${PAUSE_IMAGE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
`;
