import { createHash, randomBytes } from 'node:crypto';
import * as v from 'valibot';
import { UsageError } from '../errors.ts';
import { formatInitialCluster, type InitialMember, title } from '../member.ts';
import type { RecordedMember } from '../snapshot/record.ts';
import { nearest, printable } from '../text.ts';
import { isLoopback, isPeerUrl, sameUrls } from '../url.ts';

// Values that become parts of commands, units and file names are as narrow as etcd and Azure allow, to refuse a hostile one
// before it is quoted. Messages follow the name of the value: "dataDir is not …".

const NAME = /^[\p{L}\p{N}_][\p{L}\p{N}\p{M}._:@+/~-]*$/u;
export const MemberName = v.pipe(
  v.string(),
  v.maxLength(255, 'is longer than 255 characters'),
  v.regex(
    NAME,
    'is not a member name that can be restored: letters, digits and ._:@+/~- only, a letter or digit first',
  ),
);

const PeerUrl = v.pipe(
  v.string(),
  v.check((url) => url.startsWith('http') && isPeerUrl(url), 'is not a peer URL: http(s)://host:port and nothing else'),
);

/** Of members and clusters, as etcdctl prints them. */
export const Id = v.pipe(v.string(), v.regex(/^[0-9a-f]{1,16}$/, 'is not an etcd id in lower-case hex'));

export const Initial = {
  name: MemberName,
  peerURLs: v.pipe(v.array(PeerUrl), v.minLength(1, 'is empty'), v.maxLength(16, 'is too long')),
};

/** The first problem, such as `members.0.name is not …`. */
export function issueIn(issues: readonly v.BaseIssue<unknown>[]): string {
  const [issue] = issues;
  if (issue === undefined) return 'it is invalid';
  const path = (issue.path ?? []).map(({ key }) => String(key)).join('.');
  const said = issue.kind === 'schema' ? 'is missing, unknown or of the wrong type' : issue.message;
  return `${printable(path.slice(0, 80)) || 'it'} ${said}`;
}

/** A member of the snapshot that is not restored; the reason follows "it" in a sentence. */
interface LeftOut {
  readonly id: string;
  readonly name: string;
  readonly reason: string;
}

/** The members of a snapshot: of its record, which has those of the running cluster, or of its file alone. */
export interface Known {
  readonly members: readonly RecordedMember[];
  readonly sha256: string;
  /** Of the record only. */
  readonly clusterId?: string;
  /** Of the file only (etcd-buckets.ts). */
  readonly unwrittenPromotions?: readonly string[];
  readonly removedMembers?: readonly string[];
  readonly mayListOldMembers?: boolean;
}

export interface MemberSet {
  /** Sorted by name; without ids where --initial-cluster gives them. */
  readonly voters: readonly (InitialMember & { readonly id?: string })[];
  readonly leftOut: readonly LeftOut[];
}

/** etcd's own default. */
const LONE_PEER_URL = 'http://localhost:2380';

/** The number of subsets doubles with each member, and no cluster has more members. */
const MAX_MEMBERS_FOR_SUBSETS = 12;

const BY_HAND = 'Give --initial-cluster name=peer-URL,… with the members to restore, the same on all of them';

/**
 * The members with which a restored cluster starts. A restore creates voting members only, so learners are left out, and also
 * members without a name: they never started, or their name is lost.
 * @throws UsageError when the snapshot leaves the members uncertain
 */
export function membersToRestore(known: Known): MemberSet {
  const { clusterId, removedMembers = [] } = known;
  const members = clusterId === undefined ? known.members : withoutOldCluster(known.members, clusterId);
  const problem = problemOf(members, removedMembers);
  if (problem !== undefined) throw uncertain(problem, known.members);
  const voters: (InitialMember & { id: string })[] = [];
  const leftOut: LeftOut[] = [];
  for (const { id, name, peerURLs, isLearner } of members) {
    if (isLearner) leftOut.push({ id, name, reason: 'is a learner, which a restore cannot create: add it afterwards' });
    else if (name !== '') voters.push({ id, name, peerURLs });
    else
      leftOut.push({
        id,
        name,
        reason: 'has no name in the snapshot: it never started, or etcd before 3.5.20 promoted it',
      });
  }
  if (voters.length === 0) throw uncertain('no voting member has a name', known.members);
  assertPossible(voters);
  return { voters: voters.toSorted((a, b) => (a.name < b.name ? -1 : 1)), leftOut };
}

/**
 * One member alone, at the peer URL that it had. Where the snapshot names no member, any name can be right, at etcd's default URL.
 * @throws UsageError for a member that the snapshot does not name, or that is left out of a restore
 */
export function aloneAs(name: string, known: Known | undefined): [InitialMember] {
  const names = known?.members.flatMap((member) => member.name || []) ?? [];
  if (known === undefined || names.length === 0) return [{ name, peerURLs: [LONE_PEER_URL] }];
  if (!names.includes(name)) {
    const meant = nearest(name, names);
    throw new UsageError(
      `${printable(name)} is not a member of the snapshot's cluster: ${printable(names.join(', '))}.`,
      `${meant === undefined ? '' : `Check the spelling: the most similar member is ${printable(meant)}. `}To restore a new member alone, give --initial-cluster NAME=PEER-URL.`,
    );
  }
  const { voters, leftOut } = membersToRestore(known);
  const own = voters.find((member) => member.name === name);
  if (own !== undefined) return [{ name, peerURLs: own.peerURLs }];
  const reason = leftOut.find((member) => member.name === name)?.reason ?? 'is not restored';
  throw new UsageError(`Member ${printable(name)} ${reason}.`, `To restore it as a voting member: ${BY_HAND}.`);
}

/** Checks every set that is restored, whatever its source. @throws UsageError for one with which no cluster could work */
export function assertPossible(set: readonly InitialMember[]): void {
  const invalid = set.map(misshapenPart).find((part) => part !== undefined);
  const problem = invalid ?? repeated(set) ?? onlyLocal(set);
  if (problem === undefined) return;
  throw new UsageError(
    `No cluster can have the members ${printable(formatInitialCluster(set))}: ${problem}.`,
    `${BY_HAND}.`,
  );
}

/** Why a member's name or URLs must not become part of a command; undefined = they can. */
export function misshapenPart(member: InitialMember): string | undefined {
  const checked = v.safeParse(v.object(Initial), member);
  return checked.success ? undefined : `of ${JSON.stringify(printable(member.name))}, ${issueIn(checked.issues)}`;
}

/** Whether a record or file names a voting member at all; records of restored clusters by earlier versions do not. */
export function namesVoters({ members }: Pick<Known, 'members'>): boolean {
  return members.some(({ isLearner }) => !isLearner);
}

/**
 * Compares the record, which anybody with write access could have changed, with the verified file: each recorded voting member
 * must be in the file with the same peer URLs, and a voting member that only the file has must belong to an old cluster.
 * @throws UsageError where they contradict each other
 */
export function assertAgrees(record: Known, file: Known): void {
  const voters = record.members.filter(({ isLearner }) => !isLearner);
  for (const { id, name, peerURLs } of voters) {
    const member = file.members.find((other) => other.id === id);
    if (member === undefined) throw contradiction(`the snapshot does not list ${title({ id, name })}`);
    if (!sameUrls(member.peerURLs, peerURLs)) {
      const [inFile, recorded] = [member.peerURLs, peerURLs].map((urls) => printable(urls.join()));
      throw contradiction(
        `${title({ id, name })} has the peer URL ${inFile} in the snapshot, and ${recorded} in the record`,
      );
    }
    if (member.name !== '' && member.name !== name) {
      throw contradiction(`${title({ id, name })} has the name ${printable(member.name)} in the snapshot`);
    }
  }
  const missing = file.members.find(
    (member) => !member.isLearner && member.name !== '' && !isAmong(voters, member) && !isOld(member, voters, file),
  );
  if (missing !== undefined) throw contradiction(`the record lacks the voting member ${title(missing)}`);
}

/** Whether a set matches the members of a snapshot. Members without a name are identified by their URLs. */
export function isSetOf(set: readonly InitialMember[], known: Known): boolean {
  const voters = known.members.filter(({ isLearner }) => !isLearner);
  const isKnown = (one: InitialMember): boolean =>
    voters.some(({ name, peerURLs }) => (name === '' || name === one.name) && sameUrls(peerURLs, one.peerURLs));
  const named = voters.filter(({ name }) => name !== '');
  return set.every(isKnown) && named.every((member) => isAmong(set, member) || isOld(member, set, known));
}

/** Whether two sets have the same members with the same URLs. */
export function sameMembers(a: readonly InitialMember[], b: readonly InitialMember[]): boolean {
  const urls = new Map(b.map(({ name, peerURLs }) => [name, peerURLs]));
  return a.length === b.length && a.every(({ name, peerURLs }) => sameUrls(peerURLs, urls.get(name) ?? []));
}

/** A token that no cluster had before: it gives the restored cluster a new id, so that no old member can join. */
export function newToken(): string {
  return `restored-${randomBytes(8).toString('hex')}`;
}

/** A token that every member derives from the snapshot that it restores. */
export function tokenOf(sha256: string): string {
  return `restored-${sha256.slice(0, 16)}`;
}

/** Two members with the same name or peer URL cannot both be in the cluster, and neither can a removed one. */
function problemOf(members: readonly RecordedMember[], removedMembers: readonly string[]): string | undefined {
  const clashing = clashIn(members);
  if (clashing !== undefined) return `${clashing}, so one of them belongs to an old cluster`;
  const removed = members.find(({ id }) => removedMembers.includes(id));
  return removed && `${title(removed)} was removed from the cluster`;
}

function clashIn(members: readonly (InitialMember & { readonly id?: string })[]): string | undefined {
  for (const [i, second] of members.entries()) {
    const first = members.slice(0, i).find((member) => clash(member, second));
    if (first === undefined) continue;
    const [a, b] = [first, second].map(({ id, name }) => (id === undefined ? printable(name) : title({ id, name })));
    return `${a} and ${b} have the same ${first.name !== '' && first.name === second.name ? 'name' : 'peer URL'}`;
  }
  return undefined;
}

function clash(a: InitialMember, b: InitialMember): boolean {
  return (
    (a.name !== '' && a.name === b.name) ||
    a.peerURLs.some((url) => b.peerURLs.some((other) => sameUrls([url], [other])))
  );
}

/**
 * Removes the members of an old cluster: etcd 3.4 keeps them in the file when it restores, and earlier versions of this program
 * recorded them. The id of a cluster is a hash of the ids of its first members: where it is that of a subset, and all others
 * have a peer URL of one of them, the others are the old ones.
 */
function withoutOldCluster(members: readonly RecordedMember[], clusterId: string): readonly RecordedMember[] {
  if (clashIn(members) === undefined || members.length > MAX_MEMBERS_FOR_SUBSETS) return members;
  for (let bits = 1; bits < 2 ** members.length; bits++) {
    const [some, others] = [1, 0].map((bit) => members.filter((_, i) => ((bits >> i) & 1) === bit));
    if (some === undefined || others === undefined || clusterIdOf(some) !== clusterId) continue;
    const areOld = others.every(({ peerURLs }) =>
      some.some((member) => peerURLs.some((url) => member.peerURLs.includes(url))),
    );
    return areOld ? some : members;
  }
  return members;
}

/** The first eight bytes of a SHA-1 over the members' ids, in ascending order. */
function clusterIdOf(members: readonly RecordedMember[]): string {
  const ids = members.map(({ id }) => id.padStart(16, '0')).toSorted();
  return BigInt(`0x${createHash('sha1').update(ids.join(''), 'hex').digest('hex').slice(0, 16)}`).toString(16);
}

function isAmong(set: readonly InitialMember[], { name, peerURLs }: InitialMember): boolean {
  return set.some((one) => one.name === name && sameUrls(one.peerURLs, peerURLs));
}

/** Whether a member of a file could belong to an old cluster. */
function isOld(member: InitialMember, set: readonly InitialMember[], { mayListOldMembers }: Known): boolean {
  return mayListOldMembers === true || set.some((one) => clash(one, member));
}

function repeated(set: readonly InitialMember[]): string | undefined {
  const twice = set.find(({ peerURLs }) =>
    peerURLs.some((url, i) => peerURLs.slice(0, i).some((one) => sameUrls([one], [url]))),
  );
  return twice === undefined ? clashIn(set) : `${printable(twice.name)} has the same peer URL twice`;
}

function onlyLocal(set: readonly InitialMember[]): string | undefined {
  const local = set.filter(({ peerURLs }) => peerURLs.every((url) => isLoopback(new URL(url).hostname)));
  const [first] = local;
  if (first === undefined || local.length === set.length) return undefined;
  return `the peer URL of ${printable(first.name)} cannot be reached from the other members`;
}

function uncertain(problem: string, members: readonly RecordedMember[]): UsageError {
  return new UsageError(
    `The members to restore are uncertain: ${problem}.`,
    `${BY_HAND}. The snapshot lists ${printable(formatInitialCluster(members)) || 'none'}.`,
  );
}

function contradiction(what: string): UsageError {
  return new UsageError(
    `The snapshot and its record do not list the same members: ${what}.`,
    `${BY_HAND}, or use another snapshot.`,
  );
}
