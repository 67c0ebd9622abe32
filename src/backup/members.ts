import { EtcdError } from '../errors.ts';
import type { Connection } from '../etcd/connection.ts';
import { listMembers } from '../etcd/membership.ts';
import type { Findings } from '../findings.ts';
import { type Content, type Member, withNames } from '../snapshot/content.ts';

/**
 * The members of a snapshot, with the names that its database lacks: a restore needs them, and etcd before 3.5.20 does not
 * write down what a learner that was promoted is called. The source of the snapshot knows.
 */
export async function namedMembers(
  source: Connection,
  { members, unwrittenPromotions }: Content,
  findings: Findings,
): Promise<readonly Member[]> {
  const named = members.every(({ name }) => name !== '') ? members : await addNames(source, members, findings);
  if (unwrittenPromotions.length > 0) {
    const promoted = named.filter(({ id }) => unwrittenPromotions.includes(id)).map(({ id, name }) => name || id);
    findings.add(
      `etcd's database takes ${promoted.join(', ')} for learners although they vote: etcd before 3.5.20 did not write it down.`,
      'Upgrade to the newest 3.5 before 3.6, which may not start with it (etcd issue 19557).',
    );
  }
  return named;
}

async function addNames(
  source: Connection,
  members: readonly Member[],
  findings: Findings,
): Promise<readonly Member[]> {
  try {
    return withNames(members, await listMembers(source));
  } catch (error) {
    if (!(error instanceof EtcdError)) throw error;
    findings.add(`Not all names of the members are known: ${error.message}`, 'A plan leaves out those without a name.');
    return members;
  }
}
