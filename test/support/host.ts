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
  readonly variables: Variables;
}

/**
 * A control-plane node as far as files go, on which commands run as they are printed: `/etc` and `/var/lib` are its own, and
 * `etcd-snapshot` is on the PATH. The network is that of this machine. For root only.
 */
export class Host {
  readonly #setup: string;
  readonly #variables: Variables;

  private constructor(setup: string, variables: Variables) {
    this.#setup = setup;
    this.#variables = variables;
  }

  /** @param dir where its files are kept */
  static async make(dir: string, { disks, files, variables }: HostOptions): Promise<Host> {
    const [etc, bin] = [join(dir, 'etc'), join(dir, 'bin')];
    await mkdir(etc, { recursive: true });
    await mkdir(bin);
    for (const name of BASICS) await cp(join('/etc', name), join(etc, name), { dereference: true }).catch(() => {});
    for (const [path, text] of Object.entries(files)) {
      await mkdir(join(etc, path, '..'), { recursive: true });
      await writeFile(join(etc, path), text);
    }
    const own = `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`;
    for (const [name, script] of [['etcd-snapshot', own], ...STUBS.map((name) => [name, '#!/bin/sh\n'])] as const) {
      await writeFile(join(bin, name ?? ''), script ?? '');
      await chmod(join(bin, name ?? ''), 0o755);
    }
    const mounts = Object.entries(disks).flatMap(([place, real]) => [
      `mkdir -p '${place}'`,
      `mount --bind '${real}' '${place}'`,
    ]);
    const setup = [`mount --bind '${etc}' /etc`, 'mount -t tmpfs tmpfs /var/lib', ...mounts, `cd '${dir}'`];
    const PATH = `${bin}:${variables['PATH'] ?? '/usr/bin:/bin'}`;
    return new Host(setup.join(' && '), { ...variables, PATH, NODE_EXTRA_CA_CERTS: '' });
  }

  /** Runs a command line in a shell of the host. */
  async shell(line: string): Promise<Finished> {
    return run('unshare', [...NAMESPACES, 'sh', '-c', `${this.#setup} && exec sh -c "$0"`, line], this.#variables);
  }
}
