import { readFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Authority } from './certificates.ts';
import { addressOf, close, listen } from './server.ts';

/** How the blob service answers one request. */
export interface BlobAnswer {
  readonly status: number;
  /** Azure's error code; without one it is a proxy on the way that answers. */
  readonly code?: string;
  readonly message?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Of a success, instead of an empty page of a listing. */
  readonly body?: string;
}

const EMPTY_PAGE = '<EnumerationResults><Blobs /></EnumerationResults>';

/** An empty page of a listing. */
export const EMPTY_LIST: BlobAnswer = { status: 200 };

/** A server that answers as Azure's blob service does where Azurite cannot: one answer a request, the last one for ever. */
export class BlobService {
  /** When each request came, by `performance.now()`. */
  readonly times: number[] = [];
  readonly #server: Server;
  readonly #answers: BlobAnswer[];

  private constructor(server: Server, answers: readonly BlobAnswer[], echo: boolean) {
    this.#server = server;
    this.#answers = [...answers];
    server.on('request', (request: IncomingMessage, response) => {
      this.times.push(performance.now());
      const [answer = EMPTY_LIST] = this.#answers.length > 1 ? this.#answers.splice(0, 1) : this.#answers;
      const { status, code, message = '', headers, body: own = EMPTY_PAGE } = answer;
      const asked = echo
        ? `${request.url} ${decodeURIComponent(request.url ?? '')} ${request.headers.authorization}`
        : '';
      const error = `<Error><Code>${code}</Code><Message>${escape(message + asked)}</Message></Error>`;
      const body = status === 200 ? own : error;
      const ofAzure = { 'x-ms-request-id': 'azure-request', 'content-type': 'application/xml' };
      request.resume().once('end', () => {
        if (code === undefined && status !== 200) response.writeHead(status, headers).end();
        else response.writeHead(status, { ...ofAzure, ...(code && { 'x-ms-error-code': code }), ...headers }).end(body);
      });
    });
  }

  /** @param echo puts what it was asked with, signatures and all, into the text of its errors */
  static async start(tls: Authority, answers: readonly BlobAnswer[], echo = false): Promise<BlobService> {
    const server = createServer({ cert: await readFile(tls.server.cert), key: await readFile(tls.server.key) });
    return new BlobService(await listen(server), answers, echo);
  }

  get url(): string {
    return `https://127.0.0.1:${addressOf(this.#server).port}/testaccount`;
  }

  async stop(): Promise<void> {
    await close(this.#server);
  }
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
