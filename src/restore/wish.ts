import { dirname, join } from 'node:path';
import { UsageError } from '../errors.ts';
import { type MemberConfig, readMemberConfig } from './member-config.ts';
import { parseInitialCluster } from './members.ts';
import { demandOwnTool, type Plan, readPlan } from './plan.ts';

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
export interface Wish {
  readonly plan: Plan | undefined;
  readonly config: MemberConfig | undefined;
  readonly name: string | undefined;
  readonly initialCluster: string | undefined;
  readonly initialClusterToken: string | undefined;
  readonly initialAdvertisePeerUrls: string | undefined;
}

/** Reads what the options name. @throws UsageError where they contradict each other */
export async function readWish(options: RestoreOptions): Promise<Wish> {
  const { 'from-plan': planFile, member, from } = options;
  const plan = planFile === undefined ? undefined : await readPlan(planFile);
  if (plan !== undefined) demandOwnTool(plan);
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
  return {
    ...{ plan, config, name: options.name ?? member },
    initialCluster: options['initial-cluster'],
    initialClusterToken: options['initial-cluster-token'],
    initialAdvertisePeerUrls: options['initial-advertise-peer-urls'],
  };
}

/** Whether the wish is for one of several members, who must all restore the same snapshot. */
export function isOneOfSeveral({ plan, config, initialCluster }: Wish): boolean {
  if (plan !== undefined) return plan.members.length > 1;
  if (initialCluster !== undefined) return parseInitialCluster(initialCluster).length > 1;
  return config !== undefined;
}

/** @throws UsageError */
export function dataDirOf(options: RestoreOptions, { plan, config }: Wish): string {
  const inConfig = config?.dataDir === undefined ? undefined : join(config.dataDir, 'restored');
  const dataDir = options['data-dir'] ?? inConfig ?? plan?.restoredDir ?? undefined;
  if (dataDir !== undefined) return dataDir;
  throw new UsageError(
    'It is not said where to restore to.',
    'Give --data-dir with a directory that is not there yet.',
  );
}

/** A directory `restored` inside the data directory waits to be swapped in; any other is a data directory itself. */
export function nextStep(dataDir: string, { plan, config }: Wish): string {
  const place = config?.dataDir ?? plan?.dataDir ?? dirname(dataDir);
  if (dataDir === join(place, 'restored')) return `etcd-snapshot restore --swap --data-dir ${place}`;
  return `start etcd with --data-dir ${dataDir}`;
}
