import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { messageOf, UsageError } from '../errors.ts';
import { namesInDefinition, SHORT_NAMES, type ServedResource } from '../objects/api-answers.ts';
import { answer, type Catalogue, failure, type IndexEntry } from '../objects/browse-requests.ts';
import type { Identity } from '../objects/identity.ts';
import { jsonText } from '../objects/json-text.ts';
import { MAX_KEPT } from '../objects/live-values.ts';
import { type JsonObject, UnreadableValue } from '../objects/object-values.ts';
import { pluralOf, selectionOf } from '../objects/selection.ts';
import { readObject, type StoredValue } from '../objects/stored-value.ts';
import { printable } from '../text.ts';
import type { Arguments, Context, Outcome } from './command.ts';
import { incompleteness, type ObjectSource, openObjects, readObjects, readValues } from './read-objects.ts';

const ADDRESS = '127.0.0.1';
const PORT = 8001;

/** Serves a snapshot to kubectl, until a signal ends it. */
export async function browse(context: Context, { operands, options }: Arguments): Promise<Outcome> {
  const port = portOf(options['port']);
  const [operand] = operands;
  const source = await openObjects(context, operand, options);
  const catalogue = await indexOf(context, source, options);
  const hosts: string[] = [];
  const server = createServer((request, response) => {
    const { method = '', url = '', headers } = request;
    const asked = { method, url, host: headers.host ?? '', accept: headers.accept ?? '' };
    void answer(catalogue, hosts, asked)
      .catch((error: unknown) => {
        context.log.error('a request failed', { url: printable(url), error: messageOf(error) });
        return failure(500, 'InternalError', 'the snapshot could not be read');
      })
      .then(({ status, body }) =>
        response.writeHead(status, { 'content-type': 'application/json' }).end(`${jsonText(body)}\n`),
      );
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
  return { text: '', json: { url, objects: catalogue.entries.length }, summary: 'browse ended' };
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

async function indexOf(context: Context, source: ObjectSource, options: Arguments['options']): Promise<Catalogue> {
  const entries: IndexEntry[] = [];
  const definitions = new Map<string, { plural: string; shortNames: string[] }>();
  const kept = new KeptValues();
  const unreadable = await readObjects(context, source, selectionOf(options), ({ stored, identity, object }) => {
    kept.add(stored);
    entries.push({ key: keyOf(stored), identity });
    if (identity.kind === 'CustomResourceDefinition') definitions.set(...namesInDefinition(object));
  });
  incompleteness(context, unreadable);
  entries.sort((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
  const types = Map.groupBy(entries, ({ identity: { apiVersion, kind } }) => `${apiVersion} ${kind}`);
  const resources = [...types.values()].flatMap(([first]) =>
    first === undefined ? [] : [resourceOf(first.identity, definitions)],
  );
  const { facts, source: snapshot } = source;
  return {
    ...{ entries, resources, resourceVersion: String(facts.revision) },
    takenAt: snapshot.record?.takenAt.getTime() ?? Date.now(),
    load: loaderOf(context, source, kept),
  };
}

function sortKey({ identity: { namespace, name } }: IndexEntry): string {
  return `${namespace}\0${name}`;
}

function resourceOf(
  { apiVersion, group, kind, namespace }: Identity,
  definitions: ReadonlyMap<string, { readonly plural: string; readonly shortNames: string[] }>,
): ServedResource {
  const defined = definitions.get(`${kind} ${group}`);
  const plural = defined?.plural ?? pluralOf(kind);
  const short = Object.hasOwn(SHORT_NAMES, plural) ? SHORT_NAMES[plural] : undefined;
  const shortNames = defined?.shortNames ?? (short === undefined ? [] : [short]);
  return { apiVersion, kind, plural, isNamespaced: namespace !== '', shortNames };
}

/** As a latin1 string. */
function keyOf({ key }: StoredValue): string {
  return key.toString('latin1');
}

/** The values of all objects, if they fit into memory; otherwise each request reads the snapshot again. */
class KeptValues {
  readonly #values = new Map<string, StoredValue>();
  #size = 0;

  add(stored: StoredValue): void {
    this.#size += stored.value.length;
    if (this.#size <= MAX_KEPT) this.#values.set(keyOf(stored), stored);
    else this.#values.clear();
  }

  /** By key; undefined where there are too many. */
  get all(): ReadonlyMap<string, StoredValue> | undefined {
    return this.#size <= MAX_KEPT ? this.#values : undefined;
  }
}

/** Reads objects from memory, or from the snapshot. */
function loaderOf(context: Context, source: ObjectSource, kept: KeptValues): Catalogue['load'] {
  const readAgain = async (asked: readonly IndexEntry[]): Promise<ReadonlyMap<string, StoredValue>> => {
    const wanted = new Set(asked.map(({ key }) => key));
    const found = new Map<string, StoredValue>();
    await readValues(
      context,
      source,
      (key) => wanted.has(key),
      (stored) => found.set(keyOf(stored), stored),
    );
    return found;
  };
  return async (asked) => {
    const values = kept.all ?? (await readAgain(asked));
    return asked.flatMap(({ key }) => objectOf(values.get(key), source));
  };
}

function objectOf(value: StoredValue | undefined, { keys }: ObjectSource): JsonObject[] {
  if (value === undefined) return [];
  try {
    const object = readObject(value, keys);
    return object === undefined ? [] : [object];
  } catch (error) {
    if (error instanceof UnreadableValue) return [];
    throw error;
  }
}
