import { UsageError } from '../errors.ts';
import { sameUrls } from '../snapshot/member.ts';
import { printable } from '../text.ts';
import {
  aloneAs,
  assertPossible,
  formatInitialCluster,
  type InitialMember,
  isSetOf,
  type Known,
  membersToRestore,
  parseInitialCluster,
  sameMembers,
  tokenOf,
} from './members.ts';
import type { Plan } from './plan-file.ts';
import type { MemberParameters } from './tool.ts';
import type { Wish } from './wish.ts';

export interface Resolved {
  readonly member: MemberParameters;
  /** What the operator should know of it, in sentences. */
  readonly notes: readonly string[];
}

/**
 * Works out what one member is told. A plan decides everything. Otherwise a member's own configuration gives its name, and the
 * snapshot gives the set: what a configuration says of the set is of the day on which the member joined.
 * @throws UsageError for whatever contradicts itself
 */
export function memberFor(wish: Wish, known: Known): Resolved {
  return wish.plan === undefined ? fromWish(wish, known) : fromPlan(wish.plan, wish, known);
}

/** Whether the set was given by hand, now or for the plan: then nothing that the snapshot says of it counts. */
export function isGivenByHand({ plan, initialCluster }: Wish): boolean {
  return plan === undefined ? initialCluster !== undefined : plan.membersGiven === true;
}

function fromPlan(plan: Plan, wish: Wish, known: Known): Resolved {
  const { members, initialClusterToken } = plan;
  assertPossible(members);
  if (!isGivenByHand(wish) && !isSetOf(members, known)) {
    throw new UsageError(
      `The plan is for other members than the snapshot has: ${printable(plan.initialCluster)}.`,
      'Make a new plan, and use it on all members.',
    );
  }
  const own = members.find(({ name }) => name === nameIn(wish));
  const names = members.map(({ name }) => name).join(', ');
  if (own === undefined) throw notOneOf(nameIn(wish), names);
  const member = {
    name: own.name,
    initialCluster: members,
    initialClusterToken,
    initialAdvertisePeerUrls: own.peerURLs,
  };
  return { member, notes: [] };
}

function fromWish(wish: Wish, known: Known): Resolved {
  const { config } = wish;
  const name = nameIn(wish);
  const { set, notes } = setFor(wish, name, known);
  assertPossible(set);
  const initialCluster = formatInitialCluster(set);
  const own = set.find((member) => member.name === name);
  if (own === undefined) throw notOneOf(name, initialCluster);
  const advertised = (wish.initialAdvertisePeerUrls ?? config?.initialAdvertisePeerUrls)?.split(',');
  if (
    advertised !== undefined &&
    !(advertised.every((url) => URL.canParse(url)) && sameUrls(advertised, own.peerURLs))
  ) {
    throw new UsageError(
      `Member ${name} would advertise ${advertised.join()}, but is ${own.peerURLs.join()} in the set that is restored.`,
      'Give --initial-cluster with the addresses that the members have now, the same on all of them.',
    );
  }
  if (config?.initialCluster !== undefined && !sameMembers(parseInitialCluster(config.initialCluster), set)) {
    notes.push(`The member's own configuration names another set; it is restored as ${initialCluster}.`);
  }
  const initialClusterToken = wish.initialClusterToken ?? tokenOf(known.sha256);
  return { member: { name, initialCluster: set, initialClusterToken, initialAdvertisePeerUrls: own.peerURLs }, notes };
}

/** The members that are restored, and what should be known of the choice. */
function setFor(
  { initialCluster, config }: Wish,
  name: string,
  known: Known,
): { readonly set: readonly InitialMember[]; readonly notes: string[] } {
  if (initialCluster !== undefined) return { set: parseInitialCluster(initialCluster), notes: [] };
  if (config === undefined) {
    const set = aloneAs(name, known);
    const isKnown = known.members.some((member) => member.name === name);
    const note = `${name} is no member of the snapshot's cluster; it is restored alone, at ${formatInitialCluster(set)}.`;
    return { set, notes: isKnown ? [] : [note] };
  }
  assertNamed(known);
  const { voters, leftOut } = membersToRestore(known);
  const notes = leftOut.map(({ id, name: named, reason }) => `Member ${named || id} ${reason}.`);
  if (known.mayListOldMembers === true && voters.length > 1) {
    notes.push(
      `A file of etcd 3.4 can list members of an old cluster, too; it is restored as ${formatInitialCluster(voters)}.`,
    );
  }
  return { set: voters, notes };
}

/** @throws UsageError when a member that had data would be forgotten for want of its name */
function assertNamed({ members, unwrittenPromotions = [] }: Known): void {
  const nameless = members.filter(({ id, name }) => name === '' && unwrittenPromotions.includes(id));
  if (nameless.length === 0) return;
  const urls = nameless.map(({ peerURLs }) => printable(peerURLs.join(',')));
  throw new UsageError(
    `The snapshot does not say what the members at ${urls.join(' and ')} are called: etcd before 3.5.20 did not write it down.`,
    'Give --initial-cluster, the same on all members; or restore from a plan of the stored snapshot, whose record has the names.',
  );
}

function nameIn({ name, config, plan }: Wish): string {
  const found = name ?? config?.name;
  if (found !== undefined) return found;
  throw new UsageError(
    'It is not said which member is restored.',
    plan === undefined ? 'Give --name, or --from with the file that starts etcd here.' : 'Give --member.',
  );
}

function notOneOf(name: string, set: string): UsageError {
  return new UsageError(
    `${name} is not one of the members that are restored: ${set}.`,
    'Is it spelt as etcd knows it? A member that joined after the snapshot is given with --initial-cluster, the same on all.',
  );
}
