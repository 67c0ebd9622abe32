/**
 * The fastest blob store that we can make: it keeps what it is sent in memory, answers what the worker and the Azure CLI ask
 * of a block blob, and checks nothing, neither signatures nor sums. A process of its own, for it takes a core.
 *
 *   node bench/programs/sink.ts PORT [CERT KEY]
 */
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';

interface Blob {
  readonly blocks: readonly Buffer[];
  readonly size: number;
  readonly etag: string;
  readonly storedAt: string;
  readonly headers: Readonly<Record<string, string>>;
}

const blobs = new Map<string, Blob>();
const staged = new Map<string, Map<string, Buffer>>();
/** Memory of what was deleted, for touching new memory costs as much as copying. */
const spare: Buffer[] = [];
let etags = 0;

const serve: RequestListener = (request, response) => {
  const url = new URL(request.url ?? '/', 'http://sink');
  answer(request, response, url).catch(() => response.destroy());
};

async function answer(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
  const { method = '' } = request;
  const [, , container = '', ...rest] = decodeURIComponent(url.pathname).split('/');
  const name = `${container}/${rest.join('/')}`;
  const comp = url.searchParams.get('comp');
  response.setHeader('x-ms-request-id', 'sink');
  response.setHeader('x-ms-version', request.headers['x-ms-version'] ?? '2021-12-02');
  const body = await receive(request);
  if (url.searchParams.get('restype') === 'container') {
    if (comp === 'list')
      response.setHeader('content-type', 'application/xml').end(list(container, url.searchParams.get('prefix') ?? ''));
    else created(response);
  } else if (method === 'PUT' && comp === 'block') {
    const blocks = staged.get(name) ?? new Map<string, Buffer>();
    staged.set(name, blocks.set(url.searchParams.get('blockid') ?? '', body));
    created(response);
  } else if (method === 'PUT') {
    const blocks = comp === 'blocklist' ? commit(name, body.toString()) : [body];
    created(response, store(name, blocks, request));
  } else if (method === 'DELETE') {
    remove(name);
    response.writeHead(202).end();
  } else {
    read(name, request, response);
  }
}

async function receive(request: IncomingMessage): Promise<Buffer> {
  const length = Number(request.headers['content-length'] ?? 0);
  const memory = length === 0 ? undefined : spare.findIndex(({ buffer }) => buffer.byteLength === length);
  const [reused] = memory === undefined || memory < 0 ? [] : spare.splice(memory, 1);
  const body = reused ?? Buffer.allocUnsafeSlow(length);
  let at = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    body.set(chunk, at);
    at += chunk.length;
  }
  return body;
}

function commit(name: string, order: string): Buffer[] {
  const blocks = staged.get(name);
  staged.delete(name);
  const ids = [...order.matchAll(/<(?:Latest|Uncommitted|Committed)>([^<]+)</g)].map(([, id = '']) => id);
  return ids.map((id) => blocks?.get(id) ?? Buffer.alloc(0));
}

function store(name: string, blocks: readonly Buffer[], { headers }: IncomingMessage): Blob {
  remove(name);
  const kept = Object.entries(headers).filter(([header]) => header.startsWith('x-ms-meta-')) as [string, string][];
  const blob = {
    blocks,
    size: blocks.reduce((sum, { length }) => sum + length, 0),
    etag: `"0x${(++etags).toString(16)}"`,
    storedAt: new Date().toUTCString(),
    headers: Object.fromEntries(kept),
  };
  blobs.set(name, blob);
  return blob;
}

function remove(name: string): void {
  spare.push(...(blobs.get(name)?.blocks ?? []));
  blobs.delete(name);
}

function created(response: ServerResponse, blob?: Blob): void {
  const { etag = '"0x0"', storedAt = new Date().toUTCString() } = blob ?? {};
  response.writeHead(201, { 'content-length': '0', etag, 'last-modified': storedAt }).end();
}

/** HEAD, and GET of the whole or of a range. */
function read(name: string, { method, headers }: IncomingMessage, response: ServerResponse): void {
  const blob = blobs.get(name);
  if (blob === undefined) {
    response.writeHead(404, { 'x-ms-error-code': 'BlobNotFound', 'content-length': '0' }).end();
    return;
  }
  const { size, etag, storedAt } = blob;
  const range = /^bytes=(\d+)-(\d*)$/.exec(String(headers['x-ms-range'] ?? headers['range']));
  const first = Number(range?.[1] ?? 0);
  const last = Math.min(size - 1, Number(range?.[2] || size - 1));
  response.writeHead(range === null ? 200 : 206, {
    ...{ 'content-length': String(last - first + 1), 'content-type': 'application/octet-stream' },
    ...(range === null ? {} : { 'content-range': `bytes ${first}-${last}/${size}` }),
    ...{ etag, 'last-modified': storedAt, 'x-ms-blob-type': 'BlockBlob', ...blob.headers },
  });
  if (method === 'GET') write(response, blob, first, last + 1);
  response.end();
}

/** Nothing is copied, so what is written at once costs nothing. */
function write(response: ServerResponse, { blocks }: Blob, first: number, end: number): void {
  let offset = 0;
  for (const block of blocks) {
    const part = block.subarray(Math.max(0, first - offset), Math.max(0, Math.min(block.length, end - offset)));
    if (part.length > 0) response.write(part);
    offset += block.length;
  }
}

function list(container: string, prefix: string): string {
  const items = [...blobs].flatMap(([path, { size, etag, storedAt, headers }]) => {
    if (!path.startsWith(`${container}/${prefix}`)) return [];
    const metadata = Object.entries(headers).map(([header, value]) => {
      const name = header.slice('x-ms-meta-'.length);
      return `<${name}>${value}</${name}>`;
    });
    const properties =
      `<Last-Modified>${storedAt}</Last-Modified><Etag>${etag}</Etag>` +
      `<Content-Length>${size}</Content-Length><BlobType>BlockBlob</BlobType>`;
    const name = path.slice(container.length + 1);
    return `<Blob><Name>${name}</Name><Properties>${properties}</Properties><Metadata>${metadata.join('')}</Metadata></Blob>`;
  });
  return `<?xml version="1.0"?><EnumerationResults><Blobs>${items.join('')}</Blobs><NextMarker/></EnumerationResults>`;
}

const [port, cert, key] = process.argv.slice(2);
const server =
  cert === undefined || key === undefined
    ? createServer(serve)
    : createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) }, serve);
server.listen(Number(port), '127.0.0.1');
