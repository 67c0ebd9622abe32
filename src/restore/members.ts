import { randomBytes } from 'node:crypto';
import { UsageError } from '../errors.ts';
import type { RecordedMember } from '../snapshot/record.ts';

/** One member of the set with which a restored cluster starts. */
export interface InitialMember {
  readonly name: string;
  readonly peerURLs: readonly string[];
}

/** A member of the snapshot that does not come back, and why, in words that follow "it". */
export interface LeftOut {
  readonly id: string;
  readonly name: string;
  readonly reason: string;
}

/** etcd's own default. */
const LONE_PEER_URL = 'http://localhost:2380';

/** As `--initial-cluster` writes them; a member with two URLs stands there twice. @throws UsageError */
export function parseInitialCluster(text: string): InitialMember[] {
  const urls = new Map<string, string[]>();
  for (const part of text.split(',').map((word) => word.trim())) {
    const [, name, url] = /^([^=]+)=(\S+)$/.exec(part) ?? [];
    if (name === undefined || url === undefined || !URL.canParse(url)) {
      throw new UsageError(
        `The initial cluster "${text}" cannot be understood.`,
        'It is written name=peer-URL,name=peer-URL,…, as for etcd itself.',
      );
    }
    urls.set(name, [...(urls.get(name) ?? []), url]);
  }
  return [...urls].map(([name, peerURLs]) => ({ name, peerURLs }));
}

export function formatInitialCluster(members: readonly InitialMember[]): string {
  return members.flatMap(({ name, peerURLs }) => peerURLs.map((url) => `${name}=${url}`)).join(',');
}

/**
 * The members that a restored cluster starts with, by name. Learners are no voters, and a restore knows voters only; a member
 * that never started has no name, and no data that anybody would miss; and one whose name is lost cannot be told of.
 */
export function votersOf(members: readonly RecordedMember[]): { voters: InitialMember[]; leftOut: LeftOut[] } {
  const voters: InitialMember[] = [];
  const leftOut: LeftOut[] = [];
  for (const { id, name, peerURLs, isLearner } of members) {
    if (isLearner)
      leftOut.push({ id, name, reason: 'is a learner, which a restore cannot bring back: add it afterwards' });
    else if (name === '')
      leftOut.push({ id, name, reason: 'has no name here: it never started, or etcd before 3.5.20 promoted it' });
    else voters.push({ name, peerURLs });
  }
  return { voters: voters.toSorted((a, b) => (a.name < b.name ? -1 : 1)), leftOut };
}

/** The set of a cluster that one member is alone in. */
export function aloneAs(name: string, known: readonly InitialMember[]): [InitialMember] {
  const recorded = known.find((member) => member.name === name);
  return [recorded ?? { name, peerURLs: [LONE_PEER_URL] }];
}

/** Whether two lists of URLs mean the same; their order does not count. */
export function sameUrls(a: readonly string[], b: readonly string[]): boolean {
  return normal(a) === normal(b);
}

/** Whether two sets have the same members with the same URLs. */
export function sameMembers(a: readonly InitialMember[], b: readonly InitialMember[]): boolean {
  const urls = new Map(b.map(({ name, peerURLs }) => [name, peerURLs]));
  return a.length === b.length && a.every(({ name, peerURLs }) => sameUrls(peerURLs, urls.get(name) ?? []));
}

/** Whether a set is what the members of a snapshot come to. Those without a name are known by their URLs. */
export function isSetOf(set: readonly InitialMember[], members: readonly RecordedMember[]): boolean {
  const voters = members.filter(({ isLearner }) => !isLearner);
  const isKnown = (one: InitialMember): boolean =>
    voters.some(({ name, peerURLs }) => (name === '' || name === one.name) && sameUrls(peerURLs, one.peerURLs));
  const named = voters.filter(({ name }) => name !== '');
  return set.every(isKnown) && named.every(({ name }) => set.some((one) => one.name === name));
}

/** A token that no cluster had before: it gives the restored one another id, so that no old member can join it. */
export function newToken(): string {
  return `restored-${randomBytes(8).toString('hex')}`;
}

/** The same on every member that restores this snapshot, without anybody telling them. */
export function tokenOf(sha256: string): string {
  return `restored-${sha256.slice(0, 16)}`;
}

function normal(urls: readonly string[]): string {
  return urls
    .map((url) => new URL(url).href)
    .toSorted()
    .join();
}
