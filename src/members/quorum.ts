/** The arithmetic of a majority. Learners have no vote and do not count in it. */
export interface Quorum {
  readonly voters: number;
  /** Voters that were asked and proved to work with a majority. */
  readonly healthy: number;
  /** How many voters must agree on everything. */
  readonly needed: number;
}

export function quorumOf(voters: number, healthy: number): Quorum {
  return { voters, healthy, needed: Math.floor(voters / 2) + 1 };
}

/** How many more failures are survived; negative when fewer than a majority are known to be healthy. */
export function spareOf({ healthy, needed }: Quorum): number {
  return healthy - needed;
}

/** Whether the cluster works: one member that read through a majority proves it, even where the others cannot be asked. */
export function hasQuorum({ healthy }: Quorum): boolean {
  return healthy > 0;
}

/** Such as `3 members, 2 healthy, quorum 2`. */
export function arithmetic({ voters, healthy, needed }: Quorum): string {
  return `${plural(voters, 'member')}, ${healthy} healthy, quorum ${needed}`;
}

/** The arithmetic and what follows from it, such as `3 members, 2 healthy, quorum 2: one more failure stops the cluster`. */
export function quorumInWords(quorum: Quorum): string {
  return `${arithmetic(quorum)}: ${consequence(quorum)}`;
}

function consequence(quorum: Quorum): string {
  const spare = spareOf(quorum);
  const more = quorum.healthy === quorum.voters ? '' : ' more';
  if (!hasQuorum(quorum))
    return `quorum is lost, ${plural(-spare, 'member')} must come back before the cluster works again`;
  if (spare < 0) return 'the cluster works, but too few of its members can be asked from here';
  if (spare === 0) return `one${more} failure stops the cluster`;
  return `the cluster survives ${spare}${more} ${spare === 1 ? 'failure' : 'failures'}`;
}

function plural(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
