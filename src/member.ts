import { UsageError } from './errors.ts';
import { printable } from './text.ts';

/** A member of an etcd cluster. */
export interface Member {
  /** Lower-case hex without padding, as etcdctl prints it. */
  readonly id: string;
  /** Empty for a member that was added and never started, and in the database of an unwritten promotion. */
  readonly name: string;
  readonly peerURLs: readonly string[];
  readonly clientURLs: readonly string[];
  readonly isLearner: boolean;
}

/** One member of etcd's `--initial-cluster`. */
export type InitialMember = Pick<Member, 'name' | 'peerURLs'>;

/** How messages call a member. */
export function title({ id, name }: Pick<Member, 'id' | 'name'>): string {
  return printable(name === '' ? id : `${name} (${id})`);
}

/** A member that was added has neither a name nor a client URL until its etcd runs for the first time. */
export function hasStarted({ name, clientURLs }: Pick<Member, 'name' | 'clientURLs'>): boolean {
  return name !== '' || clientURLs.length > 0;
}

/** Reads the value of `--initial-cluster`, in which a member with two URLs occurs twice. @throws UsageError */
export function parseInitialCluster(text: string): InitialMember[] {
  const urls = new Map<string, string[]>();
  for (const part of text.split(',').map((word) => word.trim())) {
    const [, name, url] = /^([^=]+)=(\S+)$/.exec(part) ?? [];
    if (name === undefined || url === undefined || !URL.canParse(url)) {
      throw new UsageError(
        `Invalid initial cluster "${printable(text)}".`,
        'Use the form that etcd uses: name=peer-URL,name=peer-URL,…',
      );
    }
    urls.set(name, [...(urls.get(name) ?? []), url]);
  }
  return [...urls].map(([name, peerURLs]) => ({ name, peerURLs }));
}

export function formatInitialCluster(members: readonly InitialMember[]): string {
  return members.flatMap(({ name, peerURLs }) => peerURLs.map((url) => `${name}=${url}`)).join(',');
}
