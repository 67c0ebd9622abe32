import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { messageOf, UsageError, WorkerError } from '../errors.ts';
import { type Answer, answer, unreadable } from '../objects/browse-requests.ts';
import { shortJson } from '../objects/json-text.ts';
import { selectionOf } from '../objects/selection.ts';
import { printable } from '../text.ts';
import { BrowsedObjects } from './browse-objects.ts';
import type { Arguments, Context, Outcome } from './command.ts';
import { openObjects } from './read-objects.ts';

const ADDRESS = '127.0.0.1';
const PORT = 8001;

/** Serves a snapshot to kubectl, until a signal ends it. */
export async function browse(context: Context, { operands, options }: Arguments): Promise<Outcome> {
  const port = portOf(options['port']);
  const [operand] = operands;
  const source = await openObjects(context, operand, options);
  const objects = await BrowsedObjects.open(context, source, selectionOf(options));
  const hosts: string[] = [];
  const server = createServer((request, response) => {
    const { method = '', url = '', headers } = request;
    const asked = { method, url, host: headers.host ?? '', accept: headers.accept ?? '' };
    void send(response, answer(objects, hosts, asked)).catch((error: unknown) => {
      if (context.signal.aborted) return;
      const known = error instanceof WorkerError ? error : undefined;
      const hint = known && { hint: known.hint };
      context.log.error('a request failed', { url: printable(url), error: messageOf(error), ...hint });
      // Part of a list can have been sent.
      if (response.headersSent) response.destroy();
      else void send(response, Promise.resolve(unreadable(known?.message ?? 'the snapshot could not be read')));
    });
  });
  server.listen(port, ADDRESS);
  await once(server, 'listening', { signal: context.signal }).catch((error: unknown) => {
    if (context.signal.aborted) throw context.signal.reason;
    throw new UsageError(`Port ${port} cannot be used: ${messageOf(error)}.`, 'Give another one with --port.', error);
  });
  const used = (server.address() as AddressInfo).port;
  hosts.push(`${ADDRESS}:${used}`, `localhost:${used}`);
  const url = `http://${ADDRESS}:${used}`;
  context.log.info('serving the snapshot until Ctrl-C', { url, try: `kubectl --server ${url} get deployments -A` });
  if (!context.signal.aborted) await once(context.signal, 'abort');
  server.close();
  server.closeAllConnections();
  return { text: '', json: { url, objects: source.facts.liveKeys ?? null }, summary: 'browse ended' };
}

/** @throws UsageError */
function portOf(option: unknown): number {
  const port = option === undefined ? PORT : Number(option);
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port;
  throw new UsageError(
    `--port ${printable(String(option))} is not a port.`,
    'Give a number from 0 to 65535; 0 is any free port.',
  );
}

/** Nothing more is read for a client that has gone. @throws what reading the snapshot throws */
async function send(response: ServerResponse, found: Promise<Answer>): Promise<void> {
  const { status, body } = await found;
  const gone = once(response, 'close').catch(() => {});
  for await (const piece of Symbol.asyncIterator in body ? body : [`${shortJson(body)}\n`]) {
    if (response.destroyed) return;
    // Not before there is something to send: reading can fail.
    if (!response.headersSent) response.writeHead(status, { 'content-type': 'application/json' });
    if (!response.write(piece)) await Promise.race([once(response, 'drain'), gone]);
  }
  response.end();
}
