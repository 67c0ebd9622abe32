import { dirname, join } from 'node:path';
import { UsageError } from '../errors.ts';
import { formatInitialCluster, type InitialMember, parseInitialCluster } from '../member.ts';
import { printable, quoteShell } from '../text.ts';
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
import { type MemberConfig, readMemberConfig } from './member-config.ts';
import { assertDirectory, assertOwnTool, type Plan, readPlan } from './plan.ts';
import { ownCommand } from './runbooks.ts';

/** The options of `restore`, as the command line gives them. */
export interface RestoreOptions {
  readonly 'data-dir'?: string;
  readonly 'wal-dir'?: string;
  readonly name?: string;
  readonly 'initial-cluster'?: string;
  readonly 'initial-cluster-token'?: string;
  readonly 'initial-advertise-peer-urls'?: string;
  readonly 'from-plan'?: string;
  readonly member?: string;
  readonly from?: string;
  readonly 'owner-from'?: string;
  readonly 'no-bump'?: boolean;
  readonly force?: boolean;
}

/** What was requested, on the command line and in the files that it names. */
export interface RestoreRequest {
  readonly plan: Plan | undefined;
  readonly config: MemberConfig | undefined;
  readonly name: string | undefined;
  readonly initialCluster: string | undefined;
  readonly initialClusterToken: string | undefined;
  readonly initialAdvertisePeerUrls: string | undefined;
}

/** Options that a plan decides for all members. */
const OF_PLAN = ['name', 'initial-cluster', 'initial-cluster-token', 'initial-advertise-peer-urls'] as const;

/** Reads the files that the options name. @throws UsageError where they contradict each other */
export async function readRestoreRequest(options: RestoreOptions): Promise<RestoreRequest> {
  const { 'from-plan': planFile, member, from } = options;
  const plan = planFile === undefined ? undefined : await readPlan(planFile);
  if (plan !== undefined) assertOwnTool(plan);
  const given = OF_PLAN.filter((option) => options[option] !== undefined);
  if (plan !== undefined && given.length > 0) {
    throw new UsageError(
      `--from-plan cannot be combined with --${given.join(', --')}: the plan sets them for all members.`,
      'Give --member with the name of the member. To change something, create a new plan.',
    );
  }
  if (plan === undefined && member !== undefined) {
    throw new UsageError('--member needs a plan.', 'Give --from-plan, or --name instead of --member.');
  }
  const config = from === undefined ? undefined : await readMemberConfig(from);
  if (config?.walDir !== undefined && options['wal-dir'] === undefined) {
    throw new UsageError(
      `The member has a separate WAL directory, ${config.walDir}.`,
      'Give --wal-dir with a new directory next to it, and start etcd with both new directories.',
    );
  }
  if (plan !== undefined && config?.name !== undefined && member !== undefined && config.name !== member) {
    throw new UsageError(
      `${printable(from ?? '')} is the configuration of member ${printable(config.name)}, not of ${printable(member)}.`,
      `On this host, give --member ${quoteShell(printable(config.name))}.`,
    );
  }
  return {
    ...{ plan, config, name: options.name ?? member },
    initialCluster: options['initial-cluster'],
    initialClusterToken: options['initial-cluster-token'],
    initialAdvertisePeerUrls: options['initial-advertise-peer-urls'],
  };
}

/** Whether the request is for one of several members, all of which must restore the same snapshot. */
export function isOneOfSeveral({ plan, config, initialCluster }: RestoreRequest): boolean {
  if (plan !== undefined) return plan.members.length > 1;
  if (initialCluster !== undefined) return parseInitialCluster(initialCluster).length > 1;
  return config !== undefined;
}

/** Whether --initial-cluster gave the set, now or to the plan: then the members in the snapshot are ignored. */
export function isGivenByHand({ plan, initialCluster }: RestoreRequest): boolean {
  return plan === undefined ? initialCluster !== undefined : plan.membersGiven === true;
}

/** What etcd's tool is given for a member; the names are those of etcd's flags. */
export interface MemberParameters {
  readonly name: string;
  readonly initialCluster: readonly InitialMember[];
  readonly initialClusterToken: string;
  readonly initialAdvertisePeerUrls: readonly string[];
}

interface Resolved {
  readonly member: MemberParameters;
  readonly warnings: readonly string[];
}

/**
 * The parameters of one member. A plan decides everything. Otherwise a member's own configuration gives its name, and the
 * snapshot gives the set, because the set in a configuration is from the day on which the member joined.
 * @throws UsageError for contradictions
 */
export function memberFor(request: RestoreRequest, known: Known): Resolved {
  const { plan, config } = request;
  const name = request.name ?? config?.name;
  if (name === undefined) {
    const option = plan === undefined ? '--name' : '--member';
    throw new UsageError(
      `No member given (${option}).`,
      `Give ${option}, or --from with the file that starts etcd here.`,
    );
  }
  const { set, warnings } = setFor(request, name, known);
  assertPossible(set);
  const initialCluster = formatInitialCluster(set);
  if (plan !== undefined && !isGivenByHand(request) && !isSetOf(set, known)) {
    throw new UsageError(
      `The plan and the snapshot have different members; the plan has ${printable(initialCluster)}.`,
      'Create a new plan, and use it on all members.',
    );
  }
  const own = set.find((member) => member.name === name);
  if (own === undefined) {
    throw new UsageError(
      `${name} is not one of the restored members: ${initialCluster}.`,
      'Check the spelling. If it joined after the snapshot, give --initial-cluster, the same on all members.',
    );
  }
  const token = plan?.initialClusterToken ?? request.initialClusterToken ?? tokenOf(known.sha256);
  const member = {
    ...{ name, initialCluster: set, initialClusterToken: token },
    initialAdvertisePeerUrls: own.peerURLs,
  };
  if (plan !== undefined) return { member, warnings };
  const advertised = (request.initialAdvertisePeerUrls ?? config?.initialAdvertisePeerUrls)?.split(',');
  if (advertised !== undefined && !sameUrls(advertised, own.peerURLs)) {
    throw new UsageError(
      `Member ${name} would advertise ${advertised.join()}, but has the peer URL ${own.peerURLs.join()} in the initial cluster.`,
      'Give --initial-cluster with the current peer URLs, the same on all members.',
    );
  }
  if (config?.initialCluster !== undefined && !sameMembers(parseInitialCluster(config.initialCluster), set)) {
    warnings.push(`The member's own configuration has a different initial cluster; restoring ${initialCluster}.`);
  }
  return { member, warnings };
}

function setFor(
  { plan, initialCluster, config }: RestoreRequest,
  name: string,
  known: Known,
): { readonly set: readonly InitialMember[]; readonly warnings: string[] } {
  if (plan !== undefined) return { set: plan.members, warnings: [] };
  if (initialCluster !== undefined) return { set: parseInitialCluster(initialCluster), warnings: [] };
  if (config === undefined) {
    const set = aloneAs(name, known);
    const isNamed = known.members.some((member) => member.name === name);
    const warning = `The snapshot names no member; restoring ${name} alone, as ${formatInitialCluster(set)}.`;
    return { set, warnings: isNamed ? [] : [warning] };
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

export interface Directories {
  /** The directory to create. */
  readonly dataDir: string;
  /** The data directory of the member's etcd; undefined = unknown. */
  readonly place: string | undefined;
  /** A separate WAL directory to create. */
  readonly walDir: string | undefined;
  /** WAL directories of the data that the member has now, where there is any. */
  readonly oldWals: readonly string[];
  readonly warnings: readonly string[];
}

/**
 * The target of a restore, with absolute paths. A member's own configuration takes precedence over a plan's directory for all
 * members; a directory that was given for this member must agree with it.
 * @throws UsageError
 */
export function directoriesOf(options: RestoreOptions, { plan, config, name }: RestoreRequest): Directories {
  const member = name ?? config?.name;
  const planned = plan?.members.find((one) => one.name === member)?.dataDir;
  const own = config?.dataDir;
  if (own !== undefined && planned !== undefined && own !== planned) {
    throw new UsageError(
      `Member ${printable(member ?? '')} has the data directory ${own} in its own configuration, but ${planned} in the plan.`,
      'Create a new plan without --data-dir, and use it on all members: their own configurations then decide.',
    );
  }
  const place = own ?? planned ?? plan?.dataDir;
  const isElsewhere = plan !== undefined && own !== undefined && own !== plan.dataDir;
  const warnings = isElsewhere
    ? [`Member ${member} has the data directory ${own} in its own configuration, not ${plan.dataDir}.`]
    : [];
  const given = options['data-dir'];
  if (given === undefined && place === undefined) {
    throw new UsageError(
      'No target directory given (--data-dir).',
      'Give --data-dir with a directory that does not exist yet.',
    );
  }
  const dataDir = given === undefined ? join(place ?? '', 'restored') : assertDirectory(given, '--data-dir');
  if (given !== undefined && own !== undefined && dataDir !== own && !dataDir.startsWith(`${own}/`)) {
    throw new UsageError(
      `The member has the data directory ${own} in its own configuration, but --data-dir is ${dataDir}.`,
      `Omit --data-dir, or give --data-dir ${quoteShell(join(own, 'restored'))}.`,
    );
  }
  const walDir = options['wal-dir'] === undefined ? undefined : assertDirectory(options['wal-dir'], '--wal-dir');
  if (walDir !== undefined && (`${walDir}/`.startsWith(`${dataDir}/`) || dataDir.startsWith(`${walDir}/`))) {
    throw new UsageError(
      `--wal-dir ${walDir} and the data directory ${dataDir} are the same, or one is in the other.`,
      'Give --wal-dir with a directory outside the data directory.',
    );
  }
  const homes = new Set([dirname(dataDir), place ?? dirname(dataDir)]);
  const oldWals = [...[...homes].map((home) => join(home, 'member/wal')), ...(config?.walDir ? [config.walDir] : [])];
  return { dataDir, place, walDir, oldWals, warnings };
}

/** A directory `restored` in the data directory is swapped in; any other, or one with a separate WAL, is a data directory itself. */
export function nextStep({ dataDir, place, walDir }: Pick<Directories, 'dataDir' | 'place' | 'walDir'>): string {
  const home = place ?? dirname(dataDir);
  if (walDir !== undefined) return `start etcd with --data-dir ${quoteShell(dataDir)} --wal-dir ${quoteShell(walDir)}`;
  if (dataDir === join(home, 'restored')) return ownCommand('restore', '--swap', '--data-dir', home);
  return `start etcd with --data-dir ${quoteShell(dataDir)}`;
}
