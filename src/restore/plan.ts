import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { UsageError, VerificationError } from '../errors.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import { formatInitialCluster, type InitialMember, type LeftOut, newToken, votersOf } from './members.ts';
import { type Layout, LAYOUTS } from './layouts.ts';
import type { Step } from './runbook.ts';

/** The version of the plan's own format. */
const FORMAT = 1;

/** What must be the same on all members, made once; the document of `restore --plan --json`. */
export interface Plan {
  readonly format: number;
  readonly madeAt: string;
  readonly snapshot: {
    readonly name: string;
    readonly sha256: string;
    /** Bytes. */
    readonly size: number;
    readonly revision: number;
    readonly etcdVersion: string;
    readonly takenAt: string;
  };
  /** Of the cluster that the snapshot was taken of; the restored one has another. */
  readonly clusterId: string;
  readonly layout: Layout;
  /** Where the members' etcd keeps its data, or the program that etcd is a part of. */
  readonly dataDir: string;
  /**
   * Inside it, and so on the same disk: where the restored data waits until all members are stopped. Null where another
   * program restores.
   */
  readonly restoredDir: string | null;
  readonly initialCluster: string;
  readonly initialClusterToken: string;
  readonly members: readonly InitialMember[];
  readonly leftOut: readonly LeftOut[];
  readonly steps: readonly Step[];
  /** sha256 of all the rest, which tells an edited plan. */
  readonly digest: string;
}

export interface PlanOptions {
  readonly layout: Layout;
  /** Undefined = the layout's. */
  readonly dataDir: string | undefined;
  readonly now: Date;
}

/** @throws UsageError when the snapshot knows no member that can be restored */
export function makePlan(name: string, size: number, record: SnapshotRecord, options: PlanOptions): Plan {
  const { sha256, revision, etcdVersion, clusterId, takenAt } = record;
  const { voters, leftOut } = votersOf(record.members);
  if (voters.length === 0) {
    throw new UsageError(`The record of ${name} names no member.`, 'Restore by flags; see the README.');
  }
  const { layout } = options;
  const { restorer, steps, ...preset } = LAYOUTS[layout];
  const dataDir = options.dataDir ?? preset.dataDir;
  const restoredDir = restorer === undefined ? join(dataDir, 'restored') : null;
  const plan = {
    format: FORMAT,
    madeAt: options.now.toISOString(),
    snapshot: { name, sha256, size, revision, etcdVersion, takenAt: takenAt.toISOString() },
    ...{ clusterId, layout, dataDir, restoredDir },
    initialCluster: formatInitialCluster(voters),
    initialClusterToken: newToken(),
    ...{ members: voters, leftOut },
    steps: steps({ fileName: basename(name), dataDir, members: voters, leftOut }),
  };
  return { ...plan, digest: digestOf(plan) };
}

/** @throws UsageError when it cannot be read, is no plan, or was edited */
export async function readPlan(path: string): Promise<Plan> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new UsageError(
      `The plan ${path} cannot be read.`,
      'Check the path of --from-plan and its permissions.',
      error,
    );
  });
  const { digest, ...rest } = parseObject(text) ?? {};
  if (rest['format'] !== FORMAT) {
    throw new UsageError(
      `${path} is not a plan of this version.`,
      'Make one: etcd-snapshot restore --plan --json >plan.json',
    );
  }
  if (digest !== digestOf(rest)) {
    throw new UsageError(
      `The plan ${path} is not as it was made: its digest does not fit.`,
      'Copy the plan anew; to change something make a new one, and use that on all members.',
    );
  }
  // The digest vouches for the rest of its shape.
  return { ...rest, digest } as Plan;
}

/** @throws UsageError when the plan's members are not restored one by one by etcd's tool */
export function demandOwnTool({ layout }: Plan): void {
  const { restorer } = LAYOUTS[layout];
  if (restorer === undefined) return;
  throw new UsageError(
    `${restorer} restores the snapshot itself, on one server; the others take the data from it.`,
    'Follow the steps: etcd-snapshot restore --plan --from-plan FILE',
  );
}

/** @throws VerificationError unless the snapshot is the plan's */
export function demandPlanned({ snapshot }: Plan, name: string, sha256: string): void {
  if (sha256 === snapshot.sha256) return;
  throw new VerificationError(
    `${name} is not the snapshot of the plan: its sha256 is ${sha256}, not ${snapshot.sha256}.`,
    `Restore ${snapshot.name} on all members, or make a new plan for all of them.`,
  );
}

/** The plan for people: what is the same everywhere, and the steps. */
export function planText(plan: Plan): string {
  const { snapshot, initialCluster, initialClusterToken, dataDir, restoredDir, members, leftOut, steps, digest } = plan;
  const parameters = [
    ['initial cluster', initialCluster],
    ['new token', initialClusterToken],
  ] as const;
  const facts = [
    [
      'snapshot',
      `${snapshot.name}, taken ${snapshot.takenAt}, revision ${snapshot.revision}, etcd ${snapshot.etcdVersion}`,
    ],
    ['sha256', snapshot.sha256],
    ['members', members.map(({ name }) => name).join(', ')],
    ...(restoredDir === null ? [] : parameters),
    ['data directory', dataDir],
    ['digest', `${digest.slice(0, 16)} (the same wherever this plan is used)`],
  ] as const;
  return [
    ...facts.map(([label, value]) => `${label.padEnd(16)}${value}`),
    ...leftOut.map(({ id, name, reason }) => `${'left out'.padEnd(16)}${name || id}: it ${reason}`),
    ...steps.map(stepText),
  ].join('\n');
}

function stepText({ title, on, run }: Step, index: number): string {
  return [`\n${index + 1}. ${title} (${on})`, ...run].join('\n   ');
}

/** JSON keeps the order of names, so what was parsed is written as it was. */
function digestOf(plan: object): string {
  return createHash('sha256').update(JSON.stringify(plan)).digest('hex');
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? Object.fromEntries(Object.entries(value)) : undefined;
  } catch {
    return undefined;
  }
}
