import { WorkerError } from '../errors.ts';
import {
  coreVersions,
  type Failure,
  groupList,
  listOf,
  parseFieldSelector,
  resourceList,
  rowOf,
  type ServedResource,
  statusOf,
  tableOf,
} from './api-answers.ts';
import type { Identity } from './identity.ts';
import { shortJson } from './json-text.ts';
import { parseSelector } from './label-selector.ts';
import { type JsonObject, UnreadableValue } from './object-values.ts';

/** Where an object is in the list of its type: the number of its directory, and that of its value in the directory. */
export interface Place {
  readonly directory: number;
  readonly value: number;
}

export interface ListedObject {
  readonly object: JsonObject;
  readonly identity: Identity;
  readonly place: Place;
}

export interface Catalogue {
  readonly resources: readonly ServedResource[];
  /** The snapshot's revision. */
  readonly resourceVersion: string;
  /** Of the snapshot, in milliseconds; ages are those of that time. */
  readonly takenAt: number;
  /** In the order of their keys. @param namespace undefined for all of them @param from the place of the first one */
  list(resource: ServedResource, namespace: string | undefined, from: Place): AsyncIterable<ListedObject>;
  /** @throws UnreadableValue where there is one that cannot be read */
  find(resource: ServedResource, namespace: string, name: string): Promise<JsonObject | undefined>;
}

export interface Request {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly host: string;
  readonly accept: string;
}

export interface Answer {
  readonly status: number;
  /** A list is made piece by piece: it can be too large for memory. */
  readonly body: JsonObject | AsyncIterable<string>;
}

/** Answers as a read-only API server. @param hosts that a request can be for: another one is a page of a browser with a false name */
export async function answer(catalogue: Catalogue, hosts: readonly string[], request: Request): Promise<Answer> {
  const { method, host, accept } = request;
  if (!hosts.includes(host)) return failure(403, 'Forbidden', 'this server is not for that host');
  const url = URL.parse(request.url, 'http://localhost');
  if (url === null) return failure(400, 'BadRequest', 'the path is invalid');
  if (method !== 'GET' || isTrue(url.searchParams.get('watch'))) {
    return failure(405, 'MethodNotAllowed', 'this is a snapshot: it can only be read with get and list');
  }
  const parts = partsOf(url.pathname);
  if (parts === undefined) return failure(400, 'BadRequest', 'the path is invalid');
  const found = discovery(catalogue, parts);
  if (found !== undefined) return { status: 200, body: found };
  const asked = askedFor(catalogue, parts);
  if (asked === undefined) return failure(404, 'NotFound', 'the server could not find the requested resource');
  const isTable = /as=Table/.test(accept);
  return asked.name === undefined
    ? list(catalogue, asked, url.searchParams, isTable)
    : get(catalogue, asked.resource, asked.namespace, asked.name, isTable);
}

function failure(code: number, reason: string, message: string): Answer {
  const status: Failure = { code, reason, message };
  return { status: code, body: statusOf(status) };
}

/** @param message why the snapshot, or an object in it, cannot be read */
export function unreadable(message: string): Answer {
  return failure(500, 'InternalError', message);
}

function isTrue(value: string | null): boolean {
  return value === 'true' || value === '1';
}

function partsOf(path: string): string[] | undefined {
  try {
    return path
      .split('/')
      .filter((part) => part !== '')
      .map(decodeURIComponent);
  } catch {
    return undefined;
  }
}

function discovery(
  { resources }: Catalogue,
  [root, group, version, ...rest]: readonly string[],
): JsonObject | undefined {
  if (root === 'version' && group === undefined) return { major: '1', minor: '', gitVersion: 'v1.0.0-snapshot' };
  if (root === 'api' && group === undefined) return coreVersions();
  if (root === 'apis' && group === undefined) return groupList(resources);
  if (root === 'api' && group === 'v1' && version === undefined) return resourceList('v1', resources);
  if (root !== 'apis' || version === undefined || rest.length > 0) return undefined;
  const groupVersion = `${group}/${version}`;
  return resources.some(({ apiVersion }) => apiVersion === groupVersion)
    ? resourceList(groupVersion, resources)
    : undefined;
}

interface Asked {
  readonly resource: ServedResource;
  readonly namespace: string | undefined;
  /** Undefined for a list. */
  readonly name: string | undefined;
}

/** `/api/v1/[namespaces/N/]RESOURCE[/NAME]`, and the same below `/apis/GROUP/VERSION`. */
function askedFor({ resources }: Catalogue, parts: readonly string[]): Asked | undefined {
  const isCore = parts[0] === 'api';
  if (!isCore && parts[0] !== 'apis') return undefined;
  const apiVersion = isCore ? parts[1] : `${parts[1]}/${parts[2]}`;
  const path = parts.slice(isCore ? 2 : 3);
  const namespace = path[0] === 'namespaces' && path.length > 2 ? path[1] : undefined;
  const [plural, name, ...rest] = namespace === undefined ? path : path.slice(2);
  const resource = resources.find((known) => known.apiVersion === apiVersion && known.plural === plural);
  if (resource === undefined || rest.length > 0) return undefined;
  if (namespace !== undefined && !resource.isNamespaced) return undefined;
  return { resource, namespace, name };
}

async function get(
  catalogue: Catalogue,
  resource: ServedResource,
  namespace = '',
  name: string,
  isTable: boolean,
): Promise<Answer> {
  let object: JsonObject | undefined;
  try {
    object = await catalogue.find(resource, namespace, name);
  } catch (error) {
    if (!(error instanceof UnreadableValue)) throw error;
    return unreadable(`${resource.plural} "${name}" cannot be read: its value ${error.message}`);
  }
  if (object === undefined) return failure(404, 'NotFound', `${resource.plural} "${name}" not found`);
  const rows = (): JsonObject[] => [rowOf(resource, object, catalogue.takenAt)];
  return { status: 200, body: isTable ? { ...tableOf(resource), metadata: {}, rows: rows() } : object };
}

function list(catalogue: Catalogue, asked: Asked, query: URLSearchParams, isTable: boolean): Answer {
  const { kind } = asked.resource;
  const hasFields = parseFieldSelector(query.get('fieldSelector') ?? '', kind);
  if (hasFields === undefined) {
    return failure(400, 'BadRequest', `objects of kind ${kind} cannot be selected by such a field`);
  }
  let hasLabels: (object: JsonObject) => boolean;
  try {
    hasLabels = parseSelector(query.get('labelSelector') ?? '');
  } catch (error) {
    if (!(error instanceof WorkerError)) throw error;
    return failure(400, 'BadRequest', error.message);
  }
  const from = placeIn(query.get('continue') ?? '');
  if (from === undefined) return failure(410, 'Expired', 'the continue token is not one of this server');
  const limit = Number(query.get('limit')) || Infinity;
  const isWanted = (object: JsonObject): boolean => hasFields(object) && hasLabels(object);
  // As kubectl asks for it where it sorts.
  const hasWholeObjects = query.get('includeObject') === 'Object';
  return { status: 200, body: listText(catalogue, asked, { from, limit, isWanted, isTable, hasWholeObjects }) };
}

/** The JSON of a list. */
async function* listText(
  catalogue: Catalogue,
  { resource, namespace }: Asked,
  how: {
    readonly from: Place;
    readonly limit: number;
    readonly isWanted: (object: JsonObject) => boolean;
    readonly isTable: boolean;
    readonly hasWholeObjects: boolean;
  },
): AsyncGenerator<string> {
  const head = shortJson(how.isTable ? tableOf(resource) : listOf(resource));
  // Sent with the first object: an error before it has its own answer.
  const start = `${head.slice(0, -1)},"${how.isTable ? 'rows' : 'items'}":[`;
  let [count, next] = [0, ''];
  for await (const found of catalogue.list(resource, namespace, how.from)) {
    if (!how.isWanted(found.object)) continue;
    if (count === how.limit) {
      next = tokenOf(found.place);
      break;
    }
    const { object } = found;
    const item = how.isTable ? rowOf(resource, object, catalogue.takenAt, how.hasWholeObjects) : object;
    yield `${count === 0 ? start : ','}${shortJson(item)}`;
    count++;
  }
  yield `${count === 0 ? start : ''}],"metadata":${shortJson({ resourceVersion: catalogue.resourceVersion, ...(next !== '' && { continue: next }) })}}`;
}

/** For the query of the request for the next page. */
function tokenOf({ directory, value }: Place): string {
  return Buffer.from(`from-${directory}-${value}`).toString('base64url');
}

/** Undefined for what is no token of this server. */
function placeIn(token: string): Place | undefined {
  if (token === '') return { directory: 0, value: 0 };
  const found = /^from-(\d{1,9})-(\d{1,9})$/.exec(Buffer.from(token, 'base64url').toString());
  return found === null ? undefined : { directory: Number(found[1]), value: Number(found[2]) };
}
