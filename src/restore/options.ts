import { dirname, join, resolve } from 'node:path';
import { UsageError } from '../errors.ts';
import { printable, quoteShell } from '../text.ts';
import { parseInitialCluster } from './initial-members.ts';
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

/** What was asked for, on the command line and in what it names. */
export interface RestoreRequest {
  readonly plan: Plan | undefined;
  readonly config: MemberConfig | undefined;
  readonly name: string | undefined;
  readonly initialCluster: string | undefined;
  readonly initialClusterToken: string | undefined;
  readonly initialAdvertisePeerUrls: string | undefined;
}

/** Reads what the options name. @throws UsageError where they contradict each other */
export async function readRestoreRequest(options: RestoreOptions): Promise<RestoreRequest> {
  const { 'from-plan': planFile, member, from } = options;
  const plan = planFile === undefined ? undefined : await readPlan(planFile);
  if (plan !== undefined) assertOwnTool(plan);
  const own = ['name', 'initial-cluster', 'initial-cluster-token', 'initial-advertise-peer-urls'] as const;
  const given = own.filter((name) => options[name] !== undefined);
  if (plan !== undefined && given.length > 0) {
    throw new UsageError(
      `A plan decides what is the same on all members, so --${given.join(', --')} cannot be given as well.`,
      'Name the member with --member; to change something make a new plan.',
    );
  }
  if (plan === undefined && member !== undefined) {
    throw new UsageError(
      '--member names a member of a plan, and there is none.',
      'Give --from-plan, or --name instead.',
    );
  }
  const config = from === undefined ? undefined : await readMemberConfig(from);
  if (config?.walDir !== undefined && options['wal-dir'] === undefined) {
    throw new UsageError(
      `The member keeps its raft log in a directory of its own, ${config.walDir}.`,
      'Give --wal-dir with a new directory beside it, and start etcd with both new directories.',
    );
  }
  const name = options.name ?? member;
  if (plan !== undefined && config?.name !== undefined && name !== undefined && config.name !== name) {
    throw new UsageError(
      `${printable(from ?? '')} is the configuration of member ${printable(config.name)}, not of ${printable(name)}.`,
      `On this machine restore --member ${quoteShell(printable(config.name))}.`,
    );
  }
  return {
    ...{ plan, config, name },
    initialCluster: options['initial-cluster'],
    initialClusterToken: options['initial-cluster-token'],
    initialAdvertisePeerUrls: options['initial-advertise-peer-urls'],
  };
}

/** Whether the request is for one of several members, who must all restore the same snapshot. */
export function isOneOfSeveral({ plan, config, initialCluster }: RestoreRequest): boolean {
  if (plan !== undefined) return plan.members.length > 1;
  if (initialCluster !== undefined) return parseInitialCluster(initialCluster).length > 1;
  return config !== undefined;
}

export interface Directories {
  /** The directory to make. */
  readonly dataDir: string;
  /** Where the member's etcd keeps its data; undefined where nothing says so. */
  readonly place: string | undefined;
  /** What the operator should know of it, in sentences. */
  readonly notes: readonly string[];
}

/**
 * Where to restore to. A member's own configuration is right about its own directory; what was said elsewhere must agree with it.
 * @throws UsageError
 */
export function directoriesOf(options: RestoreOptions, { plan, config, name }: RestoreRequest): Directories {
  const member = name ?? config?.name;
  const stated = plan?.members.find((one) => one.name === member)?.dataDir;
  const own = config?.dataDir;
  if (own !== undefined && stated !== undefined && own !== stated) {
    throw new UsageError(
      `Member ${printable(member ?? '')} keeps its data in ${own}, as its own configuration says, but the plan says ${stated}.`,
      'Make a new plan without --data-dir, and use it on all members: each is then restored where its configuration says.',
    );
  }
  const place = own ?? stated ?? plan?.dataDir;
  const notes =
    plan !== undefined && own !== undefined && own !== plan.dataDir
      ? [`Member ${member} keeps its data in ${own}, as its own configuration says, and not in ${plan.dataDir}.`]
      : [];
  const given = options['data-dir'];
  if (given === undefined && place !== undefined) return { dataDir: join(place, 'restored'), place, notes };
  if (given === undefined) {
    throw new UsageError(
      'It is not said where to restore to.',
      'Give --data-dir with a directory that is not there yet.',
    );
  }
  const dataDir = assertDirectory(given, '--data-dir');
  if (own !== undefined && dataDir !== own && !dataDir.startsWith(`${own}/`)) {
    throw new UsageError(
      `The member keeps its data in ${own}, as its own configuration says, and --data-dir is ${dataDir}.`,
      `Leave out --data-dir, or give --data-dir ${quoteShell(join(own, 'restored'))}.`,
    );
  }
  return { dataDir, place, notes };
}

/** A directory `restored` inside the data directory waits to be swapped in; any other is a data directory itself. */
export function nextStep({ dataDir, place }: Pick<Directories, 'dataDir' | 'place'>): string {
  const path = resolve(dataDir);
  const home = place ?? dirname(path);
  if (path === join(home, 'restored')) return ownCommand('restore', '--swap', '--data-dir', home);
  return `start etcd with --data-dir ${quoteShell(path)}`;
}
