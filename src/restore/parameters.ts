import { UsageError } from '../errors.ts';
import type { RecordedMember } from '../snapshot/record.ts';
import {
  aloneAs,
  formatInitialCluster,
  isSetOf,
  parseInitialCluster,
  sameMembers,
  sameUrls,
  tokenOf,
  votersOf,
} from './members.ts';
import type { Plan } from './plan-file.ts';
import type { MemberParameters } from './tool.ts';
import type { Wish } from './wish.ts';

/** What the snapshot says. */
export interface Known {
  readonly members: readonly RecordedMember[];
  /** Ids of members whose names the snapshot may lack; a record has them. */
  readonly unwrittenPromotions?: readonly string[];
  readonly sha256: string;
}

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

function fromPlan(plan: Plan, wish: Wish, known: Known): Resolved {
  const { members, initialClusterToken } = plan;
  if (!isSetOf(members, known.members)) {
    throw new UsageError(
      `The plan is for other members than the snapshot has: ${plan.initialCluster}.`,
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
  const { members, sha256 } = known;
  const { config } = wish;
  const name = nameIn(wish);
  const { voters, leftOut } = votersOf(members);
  const set =
    wish.initialCluster !== undefined
      ? parseInitialCluster(wish.initialCluster)
      : config === undefined
        ? aloneAs(name, voters)
        : voters;
  if (set === voters) demandNames(known);
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
  const notes = set === voters ? leftOut.map(({ id, name: named, reason }) => `Member ${named || id} ${reason}.`) : [];
  if (config?.initialCluster !== undefined && !sameMembers(parseInitialCluster(config.initialCluster), set)) {
    notes.push(`The member's own configuration names another set; it is restored as ${initialCluster}.`);
  }
  const initialClusterToken = wish.initialClusterToken ?? tokenOf(sha256);
  return { member: { name, initialCluster: set, initialClusterToken, initialAdvertisePeerUrls: own.peerURLs }, notes };
}

/** @throws UsageError when a member that had data would be forgotten for want of its name */
function demandNames({ members, unwrittenPromotions = [] }: Known): void {
  const nameless = members.filter(({ id, name }) => name === '' && unwrittenPromotions.includes(id));
  if (nameless.length === 0) return;
  const urls = nameless.map(({ peerURLs }) => peerURLs.join(','));
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
