import { readFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { text as textOf } from 'node:stream/consumers';
import type { Authority } from './certificates.ts';
import { addressOf, close, listen } from './server.ts';

/** A server on loopback that notes what it is asked for, and answers as the test says. */
export class Listener {
  /** Such as `GET /path?query`. */
  readonly asked: string[] = [];
  /** Of the requests that have one, when they are complete. */
  readonly bodies: string[] = [];
  readonly #server: Server;
  readonly #scheme: string;

  /** @param answer the status, or `hang` for a server that never answers */
  private constructor(answer: number | 'hang', tls: Authority | undefined) {
    const serve: RequestListener = (request, response) => {
      this.asked.push(`${request.method} ${request.url}`);
      void textOf(request).then((body) => body !== '' && this.bodies.push(body));
      if (answer !== 'hang') response.writeHead(answer, { location: '/elsewhere' }).end('a server said so');
    };
    this.#scheme = tls === undefined ? 'http' : 'https';
    this.#server =
      tls === undefined
        ? createServer(serve)
        : createTlsServer({ cert: readFileSync(tls.server.cert), key: readFileSync(tls.server.key) }, serve);
  }

  static async start(answer: number | 'hang', tls?: Authority): Promise<Listener> {
    const listener = new Listener(answer, tls);
    await listen(listener.#server);
    return listener;
  }

  /** Protocol, host and port. */
  get origin(): string {
    return `${this.#scheme}://localhost:${addressOf(this.#server).port}`;
  }

  async stop(): Promise<void> {
    await close(this.#server);
  }
}
