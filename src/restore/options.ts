import { dirname, join, resolve } from 'node:path';
import { UsageError } from '../errors.ts';
import { parseInitialCluster } from '../member.ts';
import { printable, quoteShell } from '../text.ts';
import { type MemberConfig, readMemberConfig } from './member-config.ts';
import { assertDirectory, type Plan, readPlan } from './plan-file.ts';
import { assertOwnTool } from './plan.ts';
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
      `--from-plan cannot be combined with --${given.join(', --')}: the plan decides them for all members.`,
      'Name the member with --member; to change something create a new plan.',
    );
  }
  if (plan === undefined && member !== undefined) {
    throw new UsageError('--member needs a plan.', 'Give --from-plan, or --name instead of --member.');
  }
  const config = from === undefined ? undefined : await readMemberConfig(from);
  if (config?.walDir !== undefined && options['wal-dir'] === undefined) {
    throw new UsageError(
      `The member keeps its WAL in a directory of its own, ${config.walDir}.`,
      'Give --wal-dir with a new directory next to it, and start etcd with both new directories.',
    );
  }
  const name = options.name ?? member;
  if (plan !== undefined && config?.name !== undefined && name !== undefined && config.name !== name) {
    throw new UsageError(
      `${printable(from ?? '')} is the configuration of member ${printable(config.name)}, not of ${printable(name)}.`,
      `On this host restore --member ${quoteShell(printable(config.name))}.`,
    );
  }
  return {
    ...{ plan, config, name },
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

export interface Directories {
  /** The directory to create. */
  readonly dataDir: string;
  /** The data directory of the member's etcd; undefined = unknown. */
  readonly place: string | undefined;
  /** A separate WAL directory to make. */
  readonly walDir: string | undefined;
  /** WAL directories of the data that the member has now, where there is any. */
  readonly oldWals: readonly string[];
  readonly warnings: readonly string[];
}

/**
 * The target of a restore. A member's own configuration takes precedence over a plan's directory for all members; a directory
 * that was given for this member must agree with it.
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
  const path = resolve(dataDir);
  const home = place ?? dirname(path);
  if (walDir !== undefined) return `start etcd with --data-dir ${quoteShell(path)} --wal-dir ${quoteShell(walDir)}`;
  if (path === join(home, 'restored')) return ownCommand('restore', '--swap', '--data-dir', home);
  return `start etcd with --data-dir ${quoteShell(path)}`;
}
