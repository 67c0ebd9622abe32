import { createSocket, type Socket } from 'node:dgram';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Why programs cannot be given a file system view of their own here; undefined = they can. */
export const noNamespaces =
  spawnSync('unshare', ['--mount', '--pid', '--fork', 'true']).status === 0 ? undefined : 'unshare needs root on Linux';

/** The command that runs a program which sees other files in the place of some of /etc. */
export function withFiles(
  files: Readonly<Record<string, string>>,
  command: readonly string[],
  isFirst = false,
): string[] {
  const mounts = Object.entries(files).map(([place, file]) => `mount --bind '${file}' '${place}'`);
  // With --fork the program is the first process of a container of its own.
  const first = isFirst ? ['--pid', '--fork', '--kill-child'] : [];
  return ['unshare', '--mount', ...first, 'sh', '-c', `${mounts.join(' && ')} && exec "$@"`, 'sh', ...command];
}

/** A name server on loopback that takes every question and answers none. */
export class SilentNameServer {
  /** For the place of /etc/resolv.conf: it makes the resolver wait for minutes. */
  readonly resolvConf: string;
  questions = 0;
  readonly #socket: Socket;

  private constructor(socket: Socket, resolvConf: string) {
    this.#socket = socket;
    this.resolvConf = resolvConf;
    socket.on('message', () => this.questions++);
  }

  static async start(dir: string): Promise<SilentNameServer> {
    const address = `127.${[0, 0, 0].map(() => 2 + Math.floor(Math.random() * 250)).join('.')}`;
    const socket = createSocket('udp4');
    socket.bind(53, address);
    await once(socket, 'listening');
    const file = join(dir, 'resolv.conf');
    writeFileSync(file, `nameserver ${address}\noptions timeout:30 attempts:5\n`);
    return new SilentNameServer(socket, file);
  }

  stop(): void {
    this.#socket.close();
  }
}
