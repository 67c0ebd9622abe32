import { writeFile } from 'node:fs/promises';
import { Daemon, freePort } from './process.ts';

/** Reads the text that Prometheus scrapes: the value by name and labels, with the labels in alphabetical order. */
export function parseMetrics(text: string): Map<string, number> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

/** Bcrypt's hash of the password, as `htpasswd -B` makes it. */
const PASSWORD_HASH = '$2b$04$abcdefghijklmnopqrstuu1wrpoX29Pz0CH9Mep0a6MemXeQNtvOW';

/** A real Pushgateway on loopback. */
export class Pushgateway {
  static readonly user = 'pusher';
  static readonly password = 'push-password~secret';
  readonly url: string;
  readonly #headers: Record<string, string>;
  readonly #daemon: Daemon;

  private constructor(url: string, headers: Record<string, string>, daemon: Daemon) {
    this.url = url;
    this.#headers = headers;
    this.#daemon = daemon;
  }

  /** With `webConfig`, the name of a file to be written, it wants user and password. */
  static async start(program: string, webConfig?: string): Promise<Pushgateway> {
    const host = `127.0.0.1:${await freePort()}`;
    const { user, password } = Pushgateway;
    if (webConfig !== undefined) await writeFile(webConfig, `basic_auth_users:\n  ${user}: ${PASSWORD_HASH}\n`);
    const auth = webConfig === undefined ? [] : [`--web.config.file=${webConfig}`];
    const pair = Buffer.from(`${user}:${password}`).toString('base64');
    const headers: Record<string, string> = webConfig === undefined ? {} : { authorization: `Basic ${pair}` };
    const ready = async (): Promise<boolean> =>
      fetch(`http://${host}/-/ready`, { headers }).then(
        ({ ok }) => ok,
        () => false,
      );
    const args = [`--web.listen-address=${host}`, '--persistence.file=', ...auth];
    const url = webConfig === undefined ? `http://${host}` : `http://${user}:${encodeURIComponent(password)}@${host}`;
    return new Pushgateway(url, headers, await Daemon.start(program, args, ready));
  }

  /** What Prometheus would scrape. */
  async scrape(): Promise<string> {
    const { protocol, host } = new URL(this.url);
    return (await fetch(`${protocol}//${host}/metrics`, { headers: this.#headers })).text();
  }

  async stop(): Promise<void> {
    await this.#daemon.stop();
  }
}
