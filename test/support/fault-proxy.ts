import {
  type ClientRequest,
  createServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer, request as tlsRequest } from 'node:https';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Authority } from './certificates.ts';
import { addressOf, close, listen } from './server.ts';

/** What happens to one request on its way to Azurite. */
export type Fault =
  | 'pass'
  /** Nothing is ever answered. */
  | 'hang'
  /** The connection breaks in the middle of the request's body. */
  | 'reset'
  /** Azurite does the work, but its answer is lost. */
  | 'lose-answer'
  /** One byte of the request's body is another. */
  | 'flip-sent'
  /** One byte of the answer's body is another. */
  | 'flip'
  /** The answer's body breaks off in the middle. */
  | 'cut'
  /** The answer ends, as if it were whole, with half of what was asked for. */
  | 'short'
  /** The answer says that it is another range. */
  | 'other-range'
  /** The answer's body breaks off after so many bytes. */
  | { readonly cutAfter: number }
  /** After so many bytes of the answer's body nothing comes any more; the connection stays open. */
  | { readonly stallAfter: number }
  /** The bodies of all such requests and answers together pass no faster than this, as on one line. */
  | { readonly bytesPerSecond: number }
  /** The clock of the service is ahead by this. */
  | { readonly aheadMs: number }
  | { readonly status: number; readonly code?: string; readonly retryAfter?: number };

export interface Seen {
  readonly method: string;
  readonly url: URL;
  /** How many requests of this method and operation came before. */
  readonly index: number;
  /** The first byte of the range that is asked for; 0 where none is. */
  readonly from: number;
}

/** May do something to Azurite before it says what happens. */
export type FaultRule = (seen: Seen) => Fault | Promise<Fault>;

/** A server between worker and Azurite that misbehaves as the test says; signatures stay valid, for the Host is kept. */
export class FaultProxy {
  readonly seen: string[] = [];
  readonly #server: Server;
  readonly #target: URL;
  readonly #rule: FaultRule;
  readonly #ca: Buffer | undefined;
  #lineFreeAt = 0;
  #underWay = 0;

  private constructor(target: string, rule: FaultRule, tls: Tls | undefined) {
    this.#target = new URL(target);
    this.#rule = rule;
    this.#ca = tls?.ca;
    const serve = (incoming: IncomingMessage, outgoing: ServerResponse): void => void this.#serve(incoming, outgoing);
    this.#server = tls === undefined ? createServer(serve) : createTlsServer(tls, serve);
  }

  /** With an authority it stands before an Azurite that speaks TLS, and does so itself. */
  static async start(target: string, rule: FaultRule, authority?: Authority, host = '127.0.0.1'): Promise<FaultProxy> {
    const proxy = new FaultProxy(target, rule, authority && (await readTls(authority)));
    await listen(proxy.#server, host);
    return proxy;
  }

  get url(): string {
    const { address, port } = addressOf(this.#server);
    return `${this.#target.protocol}//${address}:${port}${this.#target.pathname}`;
  }

  /** Requests that are not answered to the end, and whose client is still there. */
  get underWay(): number {
    return this.#underWay;
  }

  async stop(): Promise<void> {
    await close(this.#server);
  }

  async #serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const url = new URL(incoming.url ?? '/', this.#target);
    const method = incoming.method ?? 'GET';
    const operation = `${method} ${url.searchParams.get('comp') ?? url.searchParams.get('restype') ?? 'blob'}`;
    const index = this.seen.filter((earlier) => earlier === operation).length;
    this.seen.push(operation);
    this.#underWay++;
    incoming.on('error', () => {});
    outgoing.on('error', () => {}).once('close', () => this.#underWay--);
    const from = Number(/^bytes=(\d+)/.exec(String(incoming.headers['x-ms-range']))?.[1] ?? 0);
    const fault = await this.#rule({ method, url, index, from });
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
    this.#forward(incoming, outgoing, fault);
  }

  #forward(incoming: IncomingMessage, outgoing: ServerResponse, fault: Fault): void {
    const { hostname, port } = this.#target;
    const { method, headers, url: path } = incoming;
    const line = typeof fault === 'object' && 'bytesPerSecond' in fault ? fault.bytesPerSecond : undefined;
    const answered = (answer: IncomingMessage): void => {
      if (fault === 'lose-answer') {
        answer.resume().once('end', () => incoming.socket.destroy());
        return;
      }
      outgoing.writeHead(answer.statusCode ?? 500, spoiledHeaders(answer, fault));
      if (line === undefined) spoil(answer, outgoing, fault);
      else void this.#throttle(answer, outgoing, line);
    };
    const options = { hostname, port, path, method, headers };
    const forward =
      this.#ca === undefined ? request(options, answered) : tlsRequest({ ...options, ca: this.#ca }, answered);
    forward.on('error', () => outgoing.destroy());
    outgoing.on('close', () => forward.destroy());
    if (fault === 'flip-sent') incoming.once('data', flip);
    if (line === undefined) incoming.pipe(forward);
    else void this.#throttle(incoming, forward, line);
  }

  /** All throttled requests together are no faster than this, as on one line. */
  async #throttle(from: IncomingMessage, to: ClientRequest | ServerResponse, bytesPerSecond: number): Promise<void> {
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

interface Tls {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

async function readTls({ server }: Authority): Promise<Tls> {
  const [ca, cert, key] = [await readFile(server.ca), await readFile(server.cert), await readFile(server.key)];
  return { ca, cert, key };
}

function spoiledHeaders({ headers }: IncomingMessage, fault: Fault): IncomingMessage['headers'] {
  if (typeof fault === 'object' && 'aheadMs' in fault) {
    return { ...headers, date: new Date(Date.parse(headers.date ?? '') + fault.aheadMs).toUTCString() };
  }
  const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers['content-range'] ?? '');
  if (range === null) return headers;
  const [first, total] = [Number(range[1]), Number(range[2])];
  if (fault === 'other-range') {
    return { ...headers, 'content-range': headers['content-range']?.replace(/\d+-/, `${first + 1}-`) };
  }
  const half = halfOf(headers);
  if (fault !== 'short' || half === 0) return headers;
  return { ...headers, 'content-length': String(half), 'content-range': `bytes ${first}-${first + half - 1}/${total}` };
}

function halfOf(headers: IncomingMessage['headers']): number {
  return Number(headers['content-length'] ?? 0) >> 1;
}

function flip(chunk: Buffer): void {
  chunk[chunk.length >> 1] = (chunk[chunk.length >> 1] ?? 0) ^ 0x10;
}

/** Passes an answer's body on, up to where the fault lies. */
function spoil(answer: IncomingMessage, outgoing: ServerResponse, fault: Fault): void {
  let [passed, limit] = [0, limitOf(answer, fault)];
  answer.on('data', (chunk: Buffer) => {
    if (passed === 0 && fault === 'flip') flip(chunk);
    if (passed === 0 && fault === 'cut') limit = chunk.length >> 1;
    const part = chunk.subarray(0, Math.max(0, limit - passed));
    const isLast = passed <= limit && passed + chunk.length > limit;
    passed += chunk.length;
    if (isLast) outgoing.write(part, () => breakOff(outgoing, fault));
    else if (part.length > 0) outgoing.write(part);
  });
  answer.on('end', () => {
    if (passed <= limit) outgoing.end();
  });
}

/** How many bytes of an answer's body pass. */
function limitOf({ headers }: IncomingMessage, fault: Fault): number {
  if (fault === 'short') return halfOf(headers) || Infinity;
  if (typeof fault === 'string') return Infinity;
  return 'cutAfter' in fault ? fault.cutAfter : 'stallAfter' in fault ? fault.stallAfter : Infinity;
}

function breakOff(outgoing: ServerResponse, fault: Fault): void {
  if (fault === 'short') outgoing.end();
  else if (typeof fault === 'string' || !('stallAfter' in fault)) outgoing.destroy();
}
