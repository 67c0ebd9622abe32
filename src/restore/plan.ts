import { basename } from 'node:path';
import { UsageError, VerificationError } from '../errors.ts';
import { factsOf, type Layout } from '../installer-layouts.ts';
import { formatInitialCluster, parseInitialCluster } from '../member.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import { humanSize, printable } from '../text.ts';
import {
  assertAgrees,
  assertPossible,
  type Known,
  type MemberSet,
  membersToRestore,
  namesVoters,
  newToken,
} from './initial-members.ts';
import type { MemberConfig } from './member-config.ts';
import { checkPlan, FORMAT, type Plan, type PlanContent, restoredDirIn } from './plan-file.ts';
import { type Step, stepsFor } from './runbooks.ts';

interface PlanOptions {
  readonly layout: Layout;
  /** Of all members; undefined = the layout's. */
  readonly dataDir?: string | undefined;
  /** The configuration of one of the members, with the path of the file. */
  readonly config?: { readonly path: string; readonly member: MemberConfig } | undefined;
  /** Plan for a cluster that still works. */
  readonly force?: boolean;
  /** Earlier ids of the cluster of the snapshot. */
  readonly previousClusterIds?: readonly string[];
  readonly now: Date;
  /** As `--initial-cluster` has it; undefined = the members of the record. */
  readonly initialCluster?: string | undefined;
  /** Of the snapshot's file; undefined where it was not read, and a restore compares it. */
  readonly file?: Known | undefined;
}

/** @throws UsageError when the members to restore are uncertain, or the options contradict each other */
export function makePlan(name: string, size: number, record: SnapshotRecord, options: PlanOptions): Plan {
  const { sha256, revision, etcdVersion, clusterId, takenAt } = record;
  const { layout, config, force = false, previousClusterIds = [], initialCluster, now } = options;
  const { voters, leftOut } = membersFor(record, options);
  const preset = factsOf(layout);
  const dataDir = options.dataDir ?? preset.dataDir;
  const members = voters.map(({ id, name: member, peerURLs }) => {
    const own = givenDirectory(member, options);
    return { name: member, peerURLs: [...peerURLs], ...(id && { id }), ...(own && { dataDir: own }) };
  });
  const content: PlanContent = {
    format: FORMAT,
    madeAt: now.toISOString(),
    snapshot: { name, sha256, size, revision, etcdVersion, takenAt: takenAt.toISOString() },
    ...{ clusterId, layout, dataDir, restoredDir: restoredDirIn(layout, dataDir) },
    initialCluster: formatInitialCluster(voters),
    initialClusterToken: newToken(),
    ...{ members, leftOut: [...leftOut], force },
    configFile: config?.path ?? (options.dataDir === undefined ? preset.configFile : undefined) ?? null,
    ...(initialCluster === undefined ? {} : { membersGiven: true }),
    previousClusterIds: [...new Set([...previousClusterIds, clusterId])],
  };
  return checkPlan(content, name);
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

/** The directory that options give for a member: one for all of them, or that of its own configuration. */
function givenDirectory(name: string, { dataDir, config }: PlanOptions): string | undefined {
  const own = config?.member.dataDir;
  if (config !== undefined && own !== undefined && dataDir !== undefined && own !== dataDir) {
    throw new UsageError(
      `--data-dir is ${dataDir}, but ${config.path} has the data directory ${own}.`,
      'Omit --data-dir: each member is restored to the data directory in its own configuration.',
    );
  }
  return name === config?.member.name ? (own ?? dataDir) : dataDir;
}

/** @throws UsageError where the installer's program restores, not etcd's tool member by member */
export function assertOwnTool({ layout }: Plan): void {
  const { restoresItself, title } = factsOf(layout);
  if (!restoresItself) return;
  throw new UsageError(
    `${title} restores the snapshot itself, on one server; the others get the data from it.`,
    'Follow the steps: etcd-snapshot restore --plan --from-plan FILE',
  );
}

/** @throws VerificationError unless the snapshot is the plan's */
export function assertPlanned({ snapshot }: Plan, name: string, sha256: string): void {
  if (sha256 === snapshot.sha256) return;
  throw new VerificationError(
    `${printable(name)} is not the snapshot of the plan: its sha256 is ${printable(sha256)}, not ${snapshot.sha256}.`,
    `Restore ${snapshot.name} on all members, or create a new plan for all of them.`,
  );
}

/** The steps of a plan, never those in its file. @param file where the plan is, as the steps name it */
export function stepsOf(plan: Plan, file: string): Step[] {
  const { snapshot, madeAt } = plan;
  const stamp = madeAt.slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-');
  return stepsFor({ ...plan, planFile: file, fileName: basename(snapshot.name), stamp });
}

/** The document of `restore --plan --json`, which `--from-plan` reads. */
export function planJson({ digest, ...content }: Plan, file: string): object {
  return { ...content, steps: stepsOf({ ...content, digest }, file), digest };
}

/** The plan for people: what is the same on all members, and the steps. */
export function planText(plan: Plan, file: string): string {
  const { snapshot, initialCluster, initialClusterToken, dataDir, configFile, members, leftOut, digest } = plan;
  const { size, takenAt, revision, etcdVersion } = snapshot;
  const own = members.filter((member) => member.dataDir !== undefined && member.dataDir !== dataDir);
  const steps = stepsOf(plan, file);
  const rows = [
    ['snapshot', snapshot.name],
    ['', `${humanSize(size)}, taken ${takenAt}, revision ${revision}, etcd ${printable(etcdVersion)}`],
    ['sha256', snapshot.sha256],
    ['layout', plan.layout],
    ['members', members.map(({ name }) => name).join(', ')],
    ...(plan.restoredDir === null
      ? []
      : [
          ['initial cluster', initialCluster],
          ['new token', initialClusterToken],
        ]),
    ['data directory', `${dataDir}${configFile === null ? '' : `, unless a member's ${configFile} names another`}`],
    ...own.map((member) => [`  of ${member.name}`, member.dataDir ?? '']),
    ['digest', `${digest.slice(0, 16)} (the same wherever this plan is used)`],
    ...leftOut.map(({ id, name, reason }) => ['left out', `${name || id}: it ${printable(reason)}`]),
  ] as const;
  return [
    ...rows.map(([label = '', value = '']) => `${label.padEnd(16)}${value}`),
    ...steps.map(({ title, on, run }, index) => [`\n${index + 1}. ${title} (${on})`, ...run].join('\n   ')),
    `\nNothing was changed. Follow the ${steps.length} steps in this order.`,
  ].join('\n');
}
