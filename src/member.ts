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

/** How messages call a member. */
export function title({ id, name }: Pick<Member, 'id' | 'name'>): string {
  return printable(name === '' ? id : `${name} (${id})`);
}

/** A member that was added has neither a name nor a client URL until its etcd runs for the first time. */
export function hasStarted({ name, clientURLs }: Pick<Member, 'name' | 'clientURLs'>): boolean {
  return name !== '' || clientURLs.length > 0;
}
