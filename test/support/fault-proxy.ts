import {
  type ClientRequest,
  createServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from 'node:http';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

/** What happens to one request on its way to Azurite. */
export type Fault =
  | 'pass'
  /** Nothing is ever answered. */
  | 'hang'
  /** The connection breaks in the middle of the request's body. */
  | 'reset'
  /** Azurite does the work, but its answer is lost. */
  | 'lose-answer'
  /** One byte of the answer's body is another. */
  | 'flip'
  /** The answer's body breaks off in the middle. */
  | 'cut'
  /** The requests' bodies pass no faster than this. */
  | { readonly bytesPerSecond: number }
  | { readonly status: number; readonly code?: string; readonly retryAfter?: number };

export interface Seen {
  readonly method: string;
  readonly url: URL;
  /** How many requests of this method and operation came before. */
  readonly index: number;
}

/** A server between worker and Azurite that misbehaves as the test says; signatures stay valid, for the Host is kept. */
export class FaultProxy {
  readonly seen: string[] = [];
  readonly #server: Server;
  readonly #target: URL;
  readonly #rule: (seen: Seen) => Fault;
  #lineFreeAt = 0;

  private constructor(target: string, rule: (seen: Seen) => Fault) {
    this.#target = new URL(target);
    this.#rule = rule;
    this.#server = createServer((incoming, outgoing) => this.#serve(incoming, outgoing));
  }

  static async start(target: string, rule: (seen: Seen) => Fault): Promise<FaultProxy> {
    const proxy = new FaultProxy(target, rule);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get url(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    return `http://127.0.0.1:${address.port}${this.#target.pathname}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #serve(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const url = new URL(incoming.url ?? '/', this.#target);
    const method = incoming.method ?? 'GET';
    const operation = `${method} ${url.searchParams.get('comp') ?? url.searchParams.get('restype') ?? 'blob'}`;
    const index = this.seen.filter((earlier) => earlier === operation).length;
    this.seen.push(operation);
    const fault = this.#rule({ method, url, index });
    incoming.on('error', () => {});
    outgoing.on('error', () => {});
    if (fault === 'hang') return;
    if (fault === 'reset') {
      incoming.once('data', () => incoming.socket.destroy());
      incoming.once('end', () => incoming.socket.destroy());
      return;
    }
    if (typeof fault === 'object' && 'status' in fault) {
      const code = fault.code === undefined ? {} : { 'x-ms-error-code': fault.code };
      const wait = fault.retryAfter === undefined ? {} : { 'retry-after': String(fault.retryAfter) };
      incoming.resume().once('end', () => {
        outgoing.writeHead(fault.status, { 'content-length': '0', ...code, ...wait }).end();
      });
      return;
    }
    const { hostname, port } = this.#target;
    const forward = request({ hostname, port, path: incoming.url, method, headers: incoming.headers }, (answer) => {
      if (fault === 'lose-answer') {
        answer.resume().once('end', () => incoming.socket.destroy());
        return;
      }
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
      if (fault === 'flip' || fault === 'cut') spoil(answer, outgoing, fault);
      else answer.pipe(outgoing);
    });
    forward.on('error', () => outgoing.destroy());
    if (typeof fault === 'object') void this.#throttle(incoming, forward, fault.bytesPerSecond);
    else incoming.pipe(forward);
  }

  /** All requests together are no faster than this, as on one line. */
  async #throttle(from: IncomingMessage, to: ClientRequest, bytesPerSecond: number): Promise<void> {
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        const now = performance.now();
        this.#lineFreeAt = Math.max(now, this.#lineFreeAt) + (chunk.length / bytesPerSecond) * 1000;
        await sleep(this.#lineFreeAt - now);
        to.write(chunk);
      }
      to.end();
    } catch {
      to.destroy();
    }
  }
}

function spoil(answer: IncomingMessage, outgoing: ServerResponse, fault: 'flip' | 'cut'): void {
  let first = true;
  answer.on('data', (chunk: Buffer) => {
    if (first && fault === 'flip') chunk[chunk.length >> 1] = (chunk[chunk.length >> 1] ?? 0) ^ 0x10;
    if (first && fault === 'cut') outgoing.write(chunk.subarray(0, chunk.length >> 1), () => outgoing.destroy());
    else if (!outgoing.destroyed) outgoing.write(chunk);
    first = false;
  });
  answer.on('end', () => outgoing.end());
}
