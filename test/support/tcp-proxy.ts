import { createServer, connect, type Server, type Socket } from 'node:net';
import { once } from 'node:events';

/** What a proxy does with the bytes of a server's answers; called with each chunk, in order. */
export type Tamper = (chunk: Buffer) => Buffer;

/** A TCP proxy before one server that changes what the server sends. */
export class TcpProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(target: string, tamper: () => Tamper) {
    const { hostname, port } = new URL(target);
    this.#server = createServer((client) => {
      const server = connect(Number(port), hostname);
      const change = tamper();
      for (const socket of [client, server]) {
        this.#sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => {
          this.#sockets.delete(socket);
          client.destroy();
          server.destroy();
        });
      }
      client.pipe(server);
      server.on('data', (chunk) => {
        if (!client.write(change(chunk))) server.pause();
      });
      client.on('drain', () => server.resume());
      server.on('end', () => client.end());
    });
  }

  /** `tamper` makes the function for each new connection. */
  static async start(target: string, tamper: () => Tamper): Promise<TcpProxy> {
    const proxy = new TcpProxy(target, tamper);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get url(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    return `http://127.0.0.1:${address.port}`;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
