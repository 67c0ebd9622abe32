import { readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Authority } from './certificates.ts';
import type { EtcdTools } from './etcd.ts';
import { Host } from './host.ts';
import { type Finished, freePort, isRunning, type Variables } from './process.ts';
import { until } from './until.ts';
import { MAIN, withTools } from './worker.ts';

/** Runs etcd in the background, with the flags of /etc/default/etcd. */
const SYSTEMCTL = `#!/bin/sh
[ "$2" = etcd ] || exit 0
pidfile=$HOST_DIR/etcd.pid
case $1 in
  start)
    . /etc/default/etcd
    setsid etcd $DAEMON_ARGS >>"$HOST_DIR/etcd.log" 2>&1 </dev/null &
    echo $! >"$pidfile" ;;
  stop)
    [ -f "$pidfile" ] || exit 0
    kill "$(cat "$pidfile")" 2>/dev/null
    while kill -0 "$(cat "$pidfile")" 2>/dev/null; do sleep 0.1; done
    rm "$pidfile" ;;
esac
`;

/** It sees its own processes only: on other nodes, and in other tests, etcd has the same paths open. */
const WORKER = `#!/bin/sh\nexec unshare --pid --fork --mount-proc '${process.execPath}' '${MAIN}' "$@"\n`;

const DATA_DIR = '/var/lib/etcddisk';

/** A control-plane node of AKS Engine that runs etcd as it is configured in /etc/default/etcd. For root only. */
export class AksNode {
  static readonly #all = new Set<AksNode>();
  name: string;
  readonly client: string;
  readonly peer: string;
  readonly #host: Host;
  readonly #tls: Authority;

  // What `systemctl` starts is no child of ours.
  static {
    process.on('exit', () => {
      for (const node of AksNode.#all) node.#killEtcd();
    });
  }

  private constructor(name: string, host: Host, tls: Authority, client: string, peer: string) {
    this.name = name;
    this.client = client;
    this.peer = peer;
    this.#host = host;
    this.#tls = tls;
    AksNode.#all.add(this);
  }

  static async make(name: string, parent: string, tools: EtcdTools, tls: Authority): Promise<AksNode> {
    const url = async (): Promise<string> => `https://127.0.0.1:${await freePort()}`;
    const dir = join(parent, name);
    await mkdir(join(dir, 'etcddisk'), { recursive: true });
    const host = await Host.make(dir, {
      disks: { [DATA_DIR]: join(dir, 'etcddisk') },
      files: { 'default/etcd': '', 'kubernetes/manifests/kube-apiserver.yaml': 'kind: Pod\n' },
      programs: { systemctl: SYSTEMCTL, 'etcd-snapshot': WORKER },
      seesAllProcesses: true,
      variables: withTools(tools),
    });
    return new AksNode(name, host, tls, await url(), await url());
  }

  /** Writes /etc/default/etcd as AKS Engine does. */
  async configure(flags: Readonly<Record<string, string>>): Promise<void> {
    const { server } = this.#tls;
    const tls = (prefix: string): Record<string, string> => ({
      [`${prefix}client-cert-auth`]: '',
      [`${prefix}trusted-ca-file`]: server.ca,
      [`${prefix}cert-file`]: server.cert,
      [`${prefix}key-file`]: server.key,
    });
    const all = {
      'data-dir': DATA_DIR,
      'listen-client-urls': this.client,
      'advertise-client-urls': this.client,
      'listen-peer-urls': this.peer,
      'initial-advertise-peer-urls': this.peer,
      ...tls(''),
      ...tls('peer-'),
      ...flags,
    };
    const words = Object.entries(all).map(([flag, value]) => (value === '' ? `--${flag}` : `--${flag} ${value}`));
    await writeFile(join(this.#host.dir, 'etc/default/etcd'), `DAEMON_ARGS="${words.join(' ')}"\n`);
  }

  async shell(line: string, variables: Variables = {}): Promise<Finished> {
    return this.#host.shell(line, variables);
  }

  /** Like `shell`, for what must succeed. Returns what was printed. */
  async mustRun(line: string, variables: Variables = {}): Promise<string> {
    const { code, stdout, stderr } = await this.shell(line, variables);
    if (code !== 0) throw new Error(`${this.name}: ${line} ended with ${code}: ${stderr}${stdout}`);
    return stdout;
  }

  /** A file in the directory in which this node's commands are run. */
  file(name: string): string {
    return join(this.#host.dir, name);
  }

  /** Ends etcd as a power cut does, and loses its data. */
  async destroy(): Promise<void> {
    await this.kill();
    await rm(this.file('etcddisk'), { recursive: true });
    await mkdir(this.file('etcddisk'));
  }

  /** Ends etcd as a power cut does. */
  async kill(): Promise<void> {
    const pid = this.#killEtcd();
    await rm(this.file('etcd.pid'), { force: true });
    if (pid !== undefined) await until(() => !isRunning(pid));
  }

  #killEtcd(): number | undefined {
    try {
      const pid = Number(readFileSync(this.file('etcd.pid'), 'utf8'));
      process.kill(pid, 'SIGKILL');
      return pid;
    } catch {
      return undefined; // it does not run
    }
  }
}
