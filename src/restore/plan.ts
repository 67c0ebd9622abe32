import { basename } from 'node:path';
import { UsageError, VerificationError } from '../errors.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import { printable } from '../text.ts';
import {
  assertAgrees,
  assertPossible,
  formatInitialCluster,
  type Known,
  type MemberSet,
  membersToRestore,
  namesVoters,
  newToken,
  parseInitialCluster,
} from './initial-members.ts';
import { factsOf, type Layout } from '../layouts.ts';
import type { MemberConfig } from './member-config.ts';
import { FORMAT, type Plan, type PlanFacts, restoredDirIn, sealPlan } from './plan-file.ts';
import { type Step, stepsFor } from './runbooks.ts';

interface PlanOptions {
  readonly layout: Layout;
  /** Of all members; undefined = the layout's. */
  readonly dataDir?: string | undefined;
  /** The configuration of one of the members, with the path of the file. */
  readonly config?: { readonly path: string; readonly member: MemberConfig } | undefined;
  /** The steps are for a cluster that still works. */
  readonly force?: boolean;
  /** Ids that the cluster is known to have had before the one that the snapshot is of. */
  readonly previousClusterIds?: readonly string[];
  readonly now: Date;
  /** As `--initial-cluster` writes it; undefined = the members of the record. */
  readonly initialCluster?: string | undefined;
  /** What the snapshot's file says; undefined where nobody has read it, and a restore compares it. */
  readonly file?: Known | undefined;
}

/** @throws UsageError when it is not certain which members are to be restored, or the options contradict each other */
export function makePlan(name: string, size: number, record: SnapshotRecord, options: PlanOptions): Plan {
  const { sha256, revision, etcdVersion, clusterId, takenAt } = record;
  const { layout, config, force = false, previousClusterIds = [], initialCluster, now } = options;
  const { voters, leftOut } = membersFor(record, options);
  const preset = factsOf(layout);
  const stated = statedDirectory(options);
  const members = voters.map(({ id, name: member, peerURLs }) => {
    const dataDir = stated(member);
    return { name: member, peerURLs: [...peerURLs], ...(id && { id }), ...(dataDir && { dataDir }) };
  });
  const dataDir = options.dataDir ?? preset.dataDir;
  const configFile = config?.path ?? (options.dataDir === undefined ? preset.configFile : undefined) ?? null;
  const facts: PlanFacts = {
    format: FORMAT,
    madeAt: now.toISOString(),
    snapshot: { name, sha256, size, revision, etcdVersion, takenAt: takenAt.toISOString() },
    ...{ clusterId, layout, dataDir, restoredDir: restoredDirIn(layout, dataDir) },
    initialCluster: formatInitialCluster(voters),
    initialClusterToken: newToken(),
    ...{ members, leftOut: [...leftOut], configFile, force },
    ...(initialCluster === undefined ? {} : { membersGiven: true as const }),
    previousClusterIds: [...new Set([...previousClusterIds, clusterId])],
  };
  return sealPlan(facts, name);
}

function membersFor(record: SnapshotRecord, { initialCluster, file }: PlanOptions): MemberSet {
  if (initialCluster !== undefined) {
    const voters = parseInitialCluster(initialCluster);
    assertPossible(voters);
    return { voters, leftOut: [] };
  }
  if (file === undefined) return membersToRestore(record);
  if (!namesVoters(record)) return membersToRestore(file);
  assertAgrees(record, file);
  return membersToRestore(record);
}

/** Which directory was given for a member: one for all of them, or its own configuration's. */
function statedDirectory({ dataDir, config }: PlanOptions): (name: string) => string | undefined {
  const own = config?.member.dataDir;
  if (config !== undefined && own !== undefined && dataDir !== undefined && own !== dataDir) {
    throw new UsageError(
      `${config.path} says that the member keeps its data in ${own}, and --data-dir says ${dataDir}.`,
      'Leave out --data-dir: each member is restored where its own configuration says.',
    );
  }
  return (name) => (name === config?.member.name ? (own ?? dataDir) : dataDir);
}

/** @throws UsageError when the plan's members are not restored one by one by etcd's tool */
export function assertOwnTool({ layout }: Plan): void {
  const { restoresItself, title } = factsOf(layout);
  if (!restoresItself) return;
  throw new UsageError(
    `${title} restores the snapshot itself, on one server; the others take the data from it.`,
    'Follow the steps: etcd-snapshot restore --plan --from-plan FILE',
  );
}

/** @throws VerificationError unless the snapshot is the plan's */
export function assertPlanned({ snapshot }: Plan, name: string, sha256: string): void {
  if (sha256 === snapshot.sha256) return;
  throw new VerificationError(
    `${printable(name)} is not the snapshot of the plan: its sha256 is ${printable(sha256)}, not ${snapshot.sha256}.`,
    `Restore ${snapshot.name} on all members, or make a new plan for all of them.`,
  );
}

/**
 * The steps as they follow from the facts; nothing of a plan's file is shown as it stands there.
 * @param file where the plan is, as the steps are to name it
 */
export function stepsOf(plan: Plan, file: string): Step[] {
  const { snapshot, madeAt } = plan;
  const stamp = madeAt.slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-');
  return stepsFor({ ...plan, planFile: file, fileName: basename(snapshot.name), stamp });
}

/** The document of `restore --plan --json`, which `--from-plan` reads again. */
export function planJson({ digest, ...facts }: Plan, file: string): object {
  return { ...facts, steps: stepsOf({ ...facts, digest }, file), digest };
}

/** The plan for people: what is the same everywhere, and the steps. */
export function planText(plan: Plan, file: string): string {
  const { snapshot, initialCluster, initialClusterToken, dataDir, restoredDir, members, leftOut, digest } = plan;
  const parameters = [
    ['initial cluster', initialCluster],
    ['new token', initialClusterToken],
  ] as const;
  const own = members.filter((member) => member.dataDir !== undefined && member.dataDir !== dataDir);
  const facts = [
    [
      'snapshot',
      `${snapshot.name}, taken ${snapshot.takenAt}, revision ${snapshot.revision}, etcd ${printable(snapshot.etcdVersion)}`,
    ],
    ['sha256', snapshot.sha256],
    ['layout', plan.layout],
    ['members', members.map(({ name }) => name).join(', ')],
    ...(restoredDir === null ? [] : parameters),
    [
      'data directory',
      `${dataDir}${plan.configFile === null ? '' : `, unless ${plan.configFile} of a member names another`}`,
    ],
    ...own.map((member) => [`  of ${member.name}`, member.dataDir ?? ''] as const),
    ['digest', `${digest.slice(0, 16)} (the same wherever this plan is used)`],
  ] as const;
  return [
    ...facts.map(([label, value]) => `${label.padEnd(16)}${value}`),
    ...leftOut.map(({ id, name, reason }) => `${'left out'.padEnd(16)}${name || id}: it ${printable(reason)}`),
    ...stepsOf(plan, file).map(stepText),
  ].join('\n');
}

function stepText({ title, on, run }: Step, index: number): string {
  return [`\n${index + 1}. ${title} (${on})`, ...run].join('\n   ');
}
