import { WorkerError } from '../errors.ts';
import {
  coreVersions,
  type Failure,
  groupList,
  listOf,
  pageOf,
  parseFieldSelector,
  resourceList,
  type ServedResource,
  statusOf,
  tableOf,
} from './api-answers.ts';
import type { Identity } from './identity.ts';
import { parseSelector } from './label-selector.ts';
import type { JsonObject } from './object-values.ts';

/** An object that can be read when it is asked for. */
export interface IndexEntry {
  /** In etcd, as a latin1 string. */
  readonly key: string;
  readonly identity: Identity;
}

export interface Catalogue {
  readonly resources: readonly ServedResource[];
  /** Sorted by namespace and name. */
  readonly entries: readonly IndexEntry[];
  /** The snapshot's revision. */
  readonly resourceVersion: string;
  /** Of the snapshot, in milliseconds; ages are those of that time. */
  readonly takenAt: number;
  /** In the order of the entries. */
  readonly load: (entries: readonly IndexEntry[]) => Promise<JsonObject[]>;
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
  readonly body: JsonObject;
}

/** Answers as a read-only API server. @param hosts that a request can be for: another one is a page of a browser with a false name */
export async function answer(catalogue: Catalogue, hosts: readonly string[], request: Request): Promise<Answer> {
  const { method, host, accept } = request;
  if (!hosts.includes(host)) return failure(403, 'Forbidden', 'this server is not for that host');
  const url = new URL(request.url, 'http://localhost');
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
    : get(catalogue, asked.resource, asked, isTable);
}

export function failure(code: number, reason: string, message: string): Answer {
  const status: Failure = { code, reason, message };
  return { status: code, body: statusOf(status) };
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

function entriesOf({ entries }: Catalogue, { apiVersion, kind }: ServedResource): IndexEntry[] {
  return entries.filter(({ identity }) => identity.apiVersion === apiVersion && identity.kind === kind);
}

async function get(
  catalogue: Catalogue,
  resource: ServedResource,
  { namespace = '', name }: Asked,
  isTable: boolean,
): Promise<Answer> {
  const entry = entriesOf(catalogue, resource).find(
    ({ identity }) => identity.name === name && identity.namespace === namespace,
  );
  const [object] = entry === undefined ? [] : await catalogue.load([entry]);
  if (object === undefined) return failure(404, 'NotFound', `${resource.plural} "${name}" not found`);
  return { status: 200, body: isTable ? tableOf(resource, [object], {}, catalogue.takenAt) : object };
}

async function list(
  catalogue: Catalogue,
  { resource, namespace }: Asked,
  query: URLSearchParams,
  isTable: boolean,
): Promise<Answer> {
  const hasFields = parseFieldSelector(query.get('fieldSelector') ?? '');
  if (hasFields === undefined) {
    return failure(400, 'BadRequest', 'only metadata.name and metadata.namespace are supported in field selectors');
  }
  let hasLabels: (object: JsonObject) => boolean;
  try {
    hasLabels = parseSelector(query.get('labelSelector') ?? '');
  } catch (error) {
    if (!(error instanceof WorkerError)) throw error;
    return failure(400, 'BadRequest', error.message);
  }
  const entries = entriesOf(catalogue, resource).filter(
    ({ identity }) => (namespace === undefined || identity.namespace === namespace) && hasFields(identity),
  );
  // Labels are in the objects: without a selector only those of the page are read.
  const hasSelector = (query.get('labelSelector') ?? '') !== '';
  const all = hasSelector ? (await catalogue.load(entries)).filter(hasLabels) : entries;
  const page = pageOf<JsonObject | IndexEntry>(all, Number(query.get('limit')) || 0, query.get('continue') ?? '');
  if (page === undefined) return failure(410, 'Expired', 'the continue token is not one of this server');
  const items = hasSelector ? (page.page as JsonObject[]) : await catalogue.load(page.page as IndexEntry[]);
  const metadata = {
    resourceVersion: catalogue.resourceVersion,
    ...(page.next !== '' && { continue: page.next, remainingItemCount: page.rest }),
  };
  return {
    status: 200,
    body: isTable ? tableOf(resource, items, metadata, catalogue.takenAt) : listOf(resource, items, metadata),
  };
}
