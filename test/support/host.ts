import { chmod, cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Finished, run, type Variables } from './process.ts';
import { MAIN } from './worker.ts';

/** What programs need of `/etc` at all. */
const BASICS = ['hosts', 'passwd', 'group', 'nsswitch.conf', 'resolv.conf', 'ld.so.cache'];

/** Programs of a control-plane node that a test does not have. */
const STUBS = ['systemctl', 'crictl', 'kubectl'];

/** Its own processes, too: those of other tests may have the same paths open, and mean others. */
const NAMESPACES = ['--mount', '--pid', '--fork', '--mount-proc'];

export interface HostOptions {
  /** Directories of this machine by where the host has them, below `/var/lib`; the outer ones first. */
  readonly disks: Readonly<Record<string, string>>;
  /** Files below `/etc`, with their text. */
  readonly files: Readonly<Record<string, string>>;
  /** Programs that do something here, with their scripts; they find this directory of the host in `HOST_DIR`. */
  readonly programs?: Readonly<Record<string, string>>;
  /** Where a command starts what goes on after it. */
  readonly seesAllProcesses?: boolean;
  readonly variables: Variables;
}

/**
 * A control-plane node as far as files go, on which commands run as they are printed: `/etc` and `/var/lib` are its own, and
 * `etcd-snapshot` is on the PATH. The network is that of this machine. For root only.
 */
export class Host {
  readonly dir: string;
  readonly #setup: string;
  readonly #namespaces: readonly string[];
  readonly #variables: Variables;

  private constructor(dir: string, setup: string, namespaces: readonly string[], variables: Variables) {
    this.dir = dir;
    this.#setup = setup;
    this.#namespaces = namespaces;
    this.#variables = variables;
  }

  /** @param dir where its files are kept */
  static async make(dir: string, options: HostOptions): Promise<Host> {
    const { disks, files, programs, variables, seesAllProcesses = false } = options;
    const [etc, bin] = [join(dir, 'etc'), join(dir, 'bin')];
    await mkdir(etc, { recursive: true });
    await mkdir(bin);
    for (const name of BASICS) await cp(join('/etc', name), join(etc, name), { dereference: true }).catch(() => {});
    for (const [path, text] of Object.entries(files)) {
      await mkdir(join(etc, path, '..'), { recursive: true });
      await writeFile(join(etc, path), text);
    }
    const own = `#!/bin/sh\nexec '${process.execPath}' -- '${MAIN}' "$@"\n`;
    const stubs = Object.fromEntries(STUBS.map((name) => [name, '#!/bin/sh\n']));
    for (const [name, script] of Object.entries({ ...stubs, 'etcd-snapshot': own, ...programs })) {
      await writeFile(join(bin, name), script);
      await chmod(join(bin, name), 0o755);
    }
    const mounts = Object.entries(disks).flatMap(([place, real]) => [
      `mkdir -p '${place}'`,
      `mount --bind '${real}' '${place}'`,
    ]);
    const setup = [`mount --bind '${etc}' /etc`, 'mount -t tmpfs tmpfs /var/lib', ...mounts, `cd '${dir}'`];
    const PATH = `${bin}:${variables['PATH'] ?? '/usr/bin:/bin'}`;
    const all = { ...variables, PATH, HOST_DIR: dir, NODE_EXTRA_CA_CERTS: '' };
    return new Host(dir, setup.join(' && '), seesAllProcesses ? ['--mount'] : NAMESPACES, all);
  }

  /** Runs a command line in a shell of the host, in the directory of the host. */
  async shell(line: string, variables: Variables = {}): Promise<Finished> {
    const all = { ...this.#variables, ...variables };
    const script = `${this.#setup} && exec sh -c "$0"`;
    return run('unshare', [...this.#namespaces, 'sh', '-c', script, line], all);
  }
}
