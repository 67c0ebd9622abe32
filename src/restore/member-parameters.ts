import { UsageError } from '../errors.ts';
import { formatInitialCluster, type InitialMember, parseInitialCluster } from '../member.ts';
import { printable } from '../text.ts';
import { sameUrls } from '../url.ts';
import {
  aloneAs,
  assertPossible,
  isSetOf,
  type Known,
  membersToRestore,
  sameMembers,
  tokenOf,
} from './initial-members.ts';
import type { RestoreRequest } from './options.ts';
import type { Plan } from './plan-file.ts';

/** What etcd's tool is given for a member; the names are those of etcd's flags. */
export interface MemberParameters {
  readonly name: string;
  readonly initialCluster: readonly InitialMember[];
  readonly initialClusterToken: string;
  readonly initialAdvertisePeerUrls: readonly string[];
}

export interface Resolved {
  readonly member: MemberParameters;
  readonly warnings: readonly string[];
}

/**
 * The parameters of one member. A plan decides everything. Otherwise a member's own configuration gives its name, and the
 * snapshot gives the set, because the set in a configuration is that of the day on which the member joined.
 * @throws UsageError for contradictions
 */
export function memberFor(request: RestoreRequest, known: Known): Resolved {
  return request.plan === undefined ? fromRequest(request, known) : fromPlan(request.plan, request, known);
}

/** Whether --initial-cluster gave the set, now or to the plan: then the members in the snapshot are ignored. */
export function isGivenByHand({ plan, initialCluster }: RestoreRequest): boolean {
  return plan === undefined ? initialCluster !== undefined : plan.membersGiven === true;
}

function fromPlan(plan: Plan, request: RestoreRequest, known: Known): Resolved {
  const { members, initialClusterToken } = plan;
  assertPossible(members);
  if (!isGivenByHand(request) && !isSetOf(members, known)) {
    throw new UsageError(
      `The members of the plan are not those of the snapshot: ${printable(plan.initialCluster)}.`,
      'Create a new plan, and use it on all members.',
    );
  }
  const own = members.find(({ name }) => name === nameIn(request));
  const names = members.map(({ name }) => name).join(', ');
  if (own === undefined) throw notOneOf(nameIn(request), names);
  const { name, peerURLs: initialAdvertisePeerUrls } = own;
  return { member: { name, initialCluster: members, initialClusterToken, initialAdvertisePeerUrls }, warnings: [] };
}

function fromRequest(request: RestoreRequest, known: Known): Resolved {
  const { config } = request;
  const name = nameIn(request);
  const { set, warnings } = setFor(request, name, known);
  assertPossible(set);
  const initialCluster = formatInitialCluster(set);
  const own = set.find((member) => member.name === name);
  if (own === undefined) throw notOneOf(name, initialCluster);
  const advertised = (request.initialAdvertisePeerUrls ?? config?.initialAdvertisePeerUrls)?.split(',');
  if (
    advertised !== undefined &&
    !(advertised.every((url) => URL.canParse(url)) && sameUrls(advertised, own.peerURLs))
  ) {
    throw new UsageError(
      `Member ${name} would advertise ${advertised.join()}, but has the peer URL ${own.peerURLs.join()} in the restored set.`,
      'Give --initial-cluster with the current peer URLs, the same on all members.',
    );
  }
  if (config?.initialCluster !== undefined && !sameMembers(parseInitialCluster(config.initialCluster), set)) {
    warnings.push(`The member's own configuration has another initial cluster; restoring ${initialCluster}.`);
  }
  const initialClusterToken = request.initialClusterToken ?? tokenOf(known.sha256);
  return {
    member: { name, initialCluster: set, initialClusterToken, initialAdvertisePeerUrls: own.peerURLs },
    warnings,
  };
}

function setFor(
  { initialCluster, config }: RestoreRequest,
  name: string,
  known: Known,
): { readonly set: readonly InitialMember[]; readonly warnings: string[] } {
  if (initialCluster !== undefined) return { set: parseInitialCluster(initialCluster), warnings: [] };
  if (config === undefined) {
    const set = aloneAs(name, known);
    const isKnown = known.members.some((member) => member.name === name);
    const warning = `${name} is not a member of the snapshot's cluster; restoring it alone, as ${formatInitialCluster(set)}.`;
    return { set, warnings: isKnown ? [] : [warning] };
  }
  assertNamed(known);
  const { voters, leftOut } = membersToRestore(known);
  const warnings = leftOut.map(({ id, name: named, reason }) => `Member ${named || id} ${reason}.`);
  if (known.mayListOldMembers === true && voters.length > 1) {
    warnings.push(
      `A file of etcd 3.4 can also list members of an old cluster; restoring ${formatInitialCluster(voters)}.`,
    );
  }
  return { set: voters, warnings };
}

/** @throws UsageError when a member that had data would be left out because its name is lost */
function assertNamed({ members, unwrittenPromotions = [] }: Known): void {
  const nameless = members.filter(({ id, name }) => name === '' && unwrittenPromotions.includes(id));
  if (nameless.length === 0) return;
  const urls = nameless.map(({ peerURLs }) => printable(peerURLs.join(',')));
  throw new UsageError(
    `The snapshot does not contain the names of the members at ${urls.join(' and ')}: etcd before 3.5.20 did not store them.`,
    'Give --initial-cluster, the same on all members; or use a plan from a stored snapshot, whose record has the names.',
  );
}

function nameIn({ name, config, plan }: RestoreRequest): string {
  const found = name ?? config?.name;
  if (found !== undefined) return found;
  throw new UsageError(
    `No member given (${plan === undefined ? '--name' : '--member'}).`,
    plan === undefined ? 'Give --name, or --from with the file that starts etcd here.' : 'Give --member, or --from.',
  );
}

function notOneOf(name: string, set: string): UsageError {
  return new UsageError(
    `${name} is not one of the restored members: ${set}.`,
    'Check the spelling. If it joined after the snapshot, give --initial-cluster, the same on all members.',
  );
}
