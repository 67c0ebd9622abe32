import { resolve } from 'node:path';
import * as v from 'valibot';
import { PREFIX_RULE } from '../config.ts';
import { UsageError } from '../errors.ts';
import { snapshotName, takenAtOf } from '../snapshot/name.ts';
import { printable } from '../text.ts';

/**
 * The values that become parts of commands, units and file names. Each is as narrow as etcd and Azure allow it to be, so that a
 * hostile one is refused before it is quoted. Messages follow the name of the value: "dataDir is not …".
 */

const NAME = /^[\p{L}\p{N}_][\p{L}\p{N}\p{M}._:@+/~-]*$/u;
export const MemberName = v.pipe(
  v.string(),
  v.maxLength(255, 'is longer than 255 characters'),
  v.regex(
    NAME,
    'is not a member name that can be restored: letters, digits and ._:@+/~- only, a letter or digit first',
  ),
);

/** etcd demands scheme, host and port, and refuses a path. */
const URL_OF_PEER = /^https?:\/\/([A-Za-z0-9_]([\w.-]*\w)?|\[[0-9A-Fa-f:.]+(%25[\w.-]+)?\]):\d{1,5}$/;
export const PeerUrl = v.pipe(
  v.string(),
  v.maxLength(512, 'is longer than 512 characters'),
  v.regex(URL_OF_PEER, 'is not a peer URL: scheme://host:port and nothing else'),
  v.check((url) => URL.canParse(url), 'is not a peer URL: its host or port is not possible'),
);

/** Of members and clusters, as etcdctl prints them. */
export const Id = v.pipe(v.string(), v.regex(/^[0-9a-f]{1,16}$/, 'is not an id of etcd, in lower-case hex'));

export const Sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'is not a sha256'));

export const Directory = v.pipe(
  v.string(),
  v.maxLength(1024, 'is longer than 1024 characters'),
  v.regex(/^\P{C}*$/u, 'has control characters'),
  v.check((path) => path.startsWith('/') && path !== '/', 'is not an absolute path below /'),
  v.check((path) => resolve(path) === path, 'has empty parts, or parts that are . or ..'),
);

/** A name that this program gives to snapshots, with any prefix that it accepts. */
const NAME_LENGTH = snapshotName('', new Date(0)).length;
export const SnapshotName = v.pipe(
  v.string(),
  v.check((name) => {
    const prefix = name.slice(0, -NAME_LENGTH);
    return takenAtOf(prefix, name) !== undefined && (prefix === '' || PREFIX_RULE.pattern.test(prefix));
  }, 'is not the name of a snapshot of this program'),
);

/** A time in ISO 8601, UTC. */
export const Time = v.pipe(v.string(), v.maxLength(40), v.isoTimestamp('is not a time'));

export const Count = v.pipe(v.number(), v.safeInteger('is not a whole number'), v.minValue(0, 'is negative'));

/** Text that is only shown, such as a version. */
export const Text = v.pipe(
  v.string(),
  v.maxLength(1024, 'is longer than 1024 characters'),
  v.regex(/^\P{C}*$/u, 'has control characters'),
);

export const Initial = {
  name: MemberName,
  peerURLs: v.pipe(v.array(PeerUrl), v.minLength(1, 'is empty'), v.maxLength(16, 'is too long')),
};

/** The first thing that is wrong, as in `members.0.name is not …`, for people. */
export function issueIn(issues: readonly v.BaseIssue<unknown>[]): string {
  const [issue] = issues;
  if (issue === undefined) return 'it cannot be understood';
  const path = (issue.path ?? []).map(({ key }) => String(key)).join('.');
  const said = issue.kind === 'schema' ? 'is missing, unknown or of the wrong type' : issue.message;
  return `${printable(path.slice(0, 80)) || 'it'} ${said}`;
}

/**
 * A directory that an option or a file names.
 * @param what names it in the message
 * @returns it as an absolute path
 * @throws UsageError
 */
export function assertDirectory(path: string, what: string): string {
  const checked = v.safeParse(Directory, resolve(path));
  if (checked.success) return checked.output;
  throw new UsageError(
    `${what} cannot be used: ${printable(path.slice(0, 200))} ${checked.issues[0].message}.`,
    'Name a directory by its absolute path.',
  );
}
