import { createServer, type Server } from 'node:http';
import { connect, type Socket } from 'node:net';
import { addressOf, close, listen } from './server.ts';

/** A real proxy on loopback for TLS connections, which wants a user name and a password. */
export class ConnectProxy {
  readonly password = 'proxy~password';
  /** The targets, such as `login.example.com:443`, in the order in which they were asked for. */
  readonly targets: string[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor() {
    this.#server = createServer((request, response) => {
      this.targets.push(request.url ?? '');
      response.writeHead(502).end();
    });
    this.#server.on('connect', ({ url = '', headers }, client: Socket) => {
      this.targets.push(url);
      const wanted = `Basic ${Buffer.from(`worker:${this.password}`).toString('base64')}`;
      if (headers['proxy-authorization'] !== wanted) {
        client.end('HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n');
        return;
      }
      const [host = '', port] = url.split(':');
      const server = connect(Number(port), host, () => {
        client.write('HTTP/1.1 200 Connection established\r\n\r\n');
        client.pipe(server).pipe(client);
      });
      server.on('error', () => client.end('HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n'));
      for (const socket of [client, server]) {
        this.#sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => this.#sockets.delete(socket));
      }
    });
  }

  static async start(): Promise<ConnectProxy> {
    const proxy = new ConnectProxy();
    await listen(proxy.#server);
    return proxy;
  }

  /** With the password that it wants, unless another is given. */
  url(password = this.password): string {
    return `http://worker:${encodeURIComponent(password)}@127.0.0.1:${addressOf(this.#server).port}`;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await close(this.#server);
  }
}
