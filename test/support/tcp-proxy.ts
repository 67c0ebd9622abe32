import { connect, createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { addressOf, close, listen } from './server.ts';

/** What a proxy does with the bytes of a server's answers; called with each chunk, in order, for each connection anew. */
export type Tamper = () => (chunk: Buffer) => Buffer;

/** A TCP proxy before one server that changes, delays or withholds what passes. */
export class TcpProxy {
  /** Bytes that the server has sent so far, over all connections. */
  passed = 0;
  /** Milliseconds that each chunk takes longer, either way. */
  latency = 0;
  /** Once so many bytes have come from the server, nothing more passes to the client until this is raised. */
  holdAfter = Infinity;
  /** Directions in which nothing passes any more; the connections stay open. */
  readonly frozen = new Set<'to client' | 'to server'>();
  readonly #server: Server;
  readonly #target: URL;
  readonly #tamper: Tamper;
  readonly #sockets = new Set<Socket>();

  private constructor(target: string, tamper: Tamper) {
    this.#target = new URL(target);
    this.#tamper = tamper;
    this.#server = createServer((client) => this.#serve(client));
  }

  static async start(target: string, tamper: Tamper = () => (chunk) => chunk): Promise<TcpProxy> {
    const proxy = new TcpProxy(target, tamper);
    await listen(proxy.#server);
    return proxy;
  }

  get url(): string {
    return `${this.#target.protocol}//127.0.0.1:${addressOf(this.#server).port}`;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await close(this.#server);
  }

  #serve(client: Socket): void {
    const server = connect(Number(this.#target.port), this.#target.hostname);
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        this.#sockets.delete(socket);
        client.destroy();
        server.destroy();
      });
    }
    const change = this.#tamper();
    void this.#pass(client, server, 'to server', (chunk) => chunk);
    void this.#pass(server, client, 'to client', (chunk) => {
      this.passed += chunk.length;
      return change(chunk);
    });
  }

  async #pass(
    from: Socket,
    to: Socket,
    direction: 'to client' | 'to server',
    change: (chunk: Buffer) => Buffer,
  ): Promise<void> {
    // One after the other, and each as much later than it came: latency takes nothing from the throughput.
    let before = Promise.resolve();
    const deliver = async (chunk: Buffer, due: number): Promise<void> => {
      const early = due - performance.now();
      if (early > 0) await sleep(early);
      const isHeld = (): boolean =>
        this.frozen.has(direction) || (direction === 'to client' && this.passed > this.holdAfter);
      while (isHeld() && !to.destroyed) await sleep(20);
      if (to.destroyed || to.write(change(chunk))) return;
      from.pause();
      await new Promise<void>((resolve) => {
        const done = (): void => {
          to.off('drain', done).off('close', done);
          resolve();
        };
        to.on('drain', done).on('close', done);
      });
      from.resume();
    };
    from.on('data', (chunk: Buffer) => {
      const due = performance.now() + this.latency;
      before = before.then(async () => deliver(chunk, due));
    });
    await once(from, 'end').catch(() => {});
    await before;
    to.end();
  }
}
