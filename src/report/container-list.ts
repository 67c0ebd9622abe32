import { type Access, CREDENTIAL_NAMES } from '../config/azure.ts';
import { TYPES } from '../config/value-types.ts';
import { UsageError } from '../errors.ts';
import type { ContainerPlace } from '../store/container-reader.ts';
import { counted, excerpt, firstOf, UNPRINTABLE } from '../text.ts';
import { shownUrl } from '../url.ts';

/** A cluster as a report shows it, and where its snapshots are. */
export interface ClusterPlace extends ContainerPlace {
  readonly name: string;
  readonly account: string;
}

const HINT =
  'Write one container per line: account/container[/prefix] [name], or the full URL of a container; a comment begins with #.';

const MAX_NAME = 100;

/** How many problems are listed. */
const SHOWN = 10;

/**
 * The containers that a file lists. A token must not be sent to a host that is not Azure's, nor a key or a SAS token to another
 * account: the file can name only accounts of the configured cloud, besides the configured endpoint.
 * @throws UsageError with all problems, each with its line
 */
export function parseContainerList(text: string, file: string, access: Access): ClusterPlace[] {
  const problems: string[] = [];
  const lines = new Map<string, number>();
  const places: ClusterPlace[] = [];
  for (const [index, line] of text.split(/\r\n?|\n/).entries()) {
    const [, target, title = ''] = /^\s*([^\s#]\S*)(?:\s+(.*?))?\s*$/.exec(line) ?? [];
    if (target === undefined) continue;
    const place = placeOf(target, title, access);
    const problem = typeof place === 'string' ? place : (accessProblem(place, access) ?? repeated(place, lines));
    if (problem !== undefined) problems.push(`line ${index + 1} ${problem}`);
    if (typeof place === 'string') continue;
    places.push(place);
    lines.set(keyOf(place), index + 1).set(place.name, index + 1);
  }
  if (problems.length === 0 && places.length === 0) problems.push('it lists no container');
  if (problems.length === 0) return places;
  const list = firstOf(problems, SHOWN).join('; ');
  throw new UsageError(`The file ${file} has ${counted(problems.length, 'error')}: ${list}.`, HINT);
}

/** The place of the whole configured account, or of one container of it. */
export function configuredPlace(access: Access, container: string, prefix: string | undefined): ClusterPlace {
  const account = access.account ?? new URL(access.endpoint).host;
  return { endpoint: access.endpoint, account, container, prefix, name: placeName(container, prefix) };
}

/** As the metrics of a backup call it: `my-cluster`, `backups/prod-eu`. */
export function placeName(container: string, prefix = ''): string {
  return `${container}/${prefix}`.replace(/\/$/, '');
}

/** @returns a problem, in words that follow the number of the line */
function placeOf(target: string, title: string, access: Access): ClusterPlace | string {
  if (title.length > MAX_NAME || title.search(UNPRINTABLE) >= 0)
    return `has a name that is too long or cannot be shown`;
  const isUrl = target.includes('://');
  const found = isUrl ? fromUrl(target, access) : fromPath(target, access);
  if (typeof found === 'string') return found;
  const { endpoint, account, path } = found;
  const [, container = '', prefix = ''] = /^([^/]*)(?:\/(.*))?$/s.exec(path) ?? [];
  if (!TYPES.container.pattern.test(container)) return `has a container that ${TYPES.container.rule}`;
  if (prefix !== '' && !TYPES.prefix.pattern.test(prefix)) return `has a prefix that ${TYPES.prefix.rule}`;
  const own = placeName(container, prefix);
  const name = title !== '' ? title : endpoint === access.endpoint ? own : `${account}/${own}`;
  return { endpoint, account, container, prefix, name };
}

interface Target {
  readonly endpoint: string;
  readonly account: string;
  /** Container and prefix. */
  readonly path: string;
}

function fromPath(target: string, access: Access): Target | string {
  const [, account = '', path = ''] = /^([^/]*)\/(.*)$/s.exec(target) ?? [];
  if (!TYPES.account.pattern.test(account)) return `has an account that ${TYPES.account.rule}: ${excerpt(target, 80)}`;
  const endpoint = account === access.account ? access.endpoint : `https://${account}.blob.${access.suffix}`;
  return { endpoint, account, path };
}

function fromUrl(target: string, access: Access): Target | string {
  const shown = shownUrl(target);
  const url = URL.parse(target);
  if (url === null || url.search !== '' || url.hash !== '' || url.username !== '') {
    return `must be the URL of a container without a query or a user: ${shown}`;
  }
  if (target.startsWith(`${access.endpoint}/`)) {
    const { account, endpoint } = configuredPlace(access, '', undefined);
    return { endpoint, account, path: target.slice(endpoint.length + 1) };
  }
  const [account = ''] = url.host.split('.');
  // The second form is that of accounts with an endpoint in a DNS zone of Azure.
  const isOfCloud =
    url.host.endsWith(`.blob.${access.suffix}`) || /^\w+\.z\d+\.blob\.storage\.azure\.net$/.test(url.host);
  if (url.protocol !== 'https:' || !isOfCloud) {
    return `names a host to which no credential can be sent, because it is neither the configured endpoint nor one of ${access.suffix}: ${shown}`;
  }
  return { endpoint: url.origin, account, path: url.pathname.slice(1) };
}

function accessProblem({ endpoint, account }: ClusterPlace, access: Access): string | undefined {
  const { kind } = access.credential;
  if (endpoint === access.endpoint || (kind !== 'key' && kind !== 'sas')) return undefined;
  const own = configuredPlace(access, '', undefined).account;
  return `is in account ${account}, but the ${CREDENTIAL_NAMES[access.source]} is for account ${own}: use an identity`;
}

function repeated(place: ClusterPlace, lines: ReadonlyMap<string, number>): string | undefined {
  const same = lines.get(keyOf(place));
  if (same !== undefined) return `names the same place as line ${same}`;
  const named = lines.get(place.name);
  return named === undefined ? undefined : `has the same name as line ${named}: ${excerpt(place.name, 80)}`;
}

/** No name has a line feed. */
function keyOf({ endpoint, container, prefix }: ClusterPlace): string {
  return `${endpoint}\n${container}/${prefix}`;
}
