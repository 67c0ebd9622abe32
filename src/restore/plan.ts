import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';
import * as v from 'valibot';
import { TYPES } from '../config/value-types.ts';
import { UsageError, VerificationError } from '../errors.ts';
import { readNamed } from '../files.ts';
import { type Layout, LAYOUT_NAMES, LAYOUTS } from '../installer-layouts.ts';
import { formatInitialCluster, parseInitialCluster } from '../member.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import { parseSnapshotName } from '../snapshot/snapshot-name.ts';
import { printable } from '../text.ts';
import {
  assertAgrees,
  assertPossible,
  Id,
  Initial,
  issueIn,
  type Known,
  MemberName,
  type MemberSet,
  membersToRestore,
  namesVoters,
  newToken,
} from './initial-members.ts';
import { dataDirOf, type MemberConfig } from './member-config.ts';

export const Sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'is not a sha256'));

/** Text that is only shown, such as a version. */
export const Text = v.pipe(
  v.string(),
  v.maxLength(1024, 'is longer than 1024 characters'),
  v.regex(/^\P{C}*$/u, 'has control characters'),
);

const Directory = v.pipe(
  Text,
  v.check((path) => path.startsWith('/') && path !== '/', 'is not an absolute path below /'),
  v.check((path) => resolve(path) === path, 'has empty parts, or parts that are . or ..'),
);

/** With any prefix that the configuration accepts. */
const SnapshotName = v.pipe(
  v.string(),
  v.check((name) => {
    const prefix = parseSnapshotName(name)?.prefix;
    return prefix === '' || (prefix !== undefined && TYPES.prefix.pattern.test(prefix));
  }, 'is not the name of a snapshot of this program'),
);

const Time = v.pipe(v.string(), v.maxLength(40), v.isoTimestamp('is not a time'));

export const Count = v.pipe(v.number(), v.safeInteger('is not a whole number'), v.minValue(0, 'is negative'));

/** The absolute path of a directory that an option or a file names. @param what its name in the message @throws UsageError */
export function assertDirectory(path: string, what: string): string {
  const checked = v.safeParse(Directory, resolve(path));
  if (checked.success) return checked.output;
  throw new UsageError(
    `Invalid ${what}: ${printable(path.slice(0, 200))} ${checked.issues[0].message}.`,
    'Give the absolute path of a directory.',
  );
}

/** The version of the file format. Files of format 1 are read, too. */
const FORMAT = 2;

const MANY = 100;

const Member = v.strictObject({
  ...Initial,
  /** In the cluster of the snapshot. */
  id: v.optional(Id),
  /** The data directory of its etcd, if an option or its configuration gave it; otherwise that of the layout. */
  dataDir: v.optional(Directory),
});

/** The digest depends on their order. */
const entries = {
  madeAt: Time,
  snapshot: v.strictObject({
    name: SnapshotName,
    sha256: Sha256,
    size: Count,
    revision: Count,
    etcdVersion: Text,
    takenAt: Time,
  }),
  clusterId: Id,
  layout: v.picklist(LAYOUT_NAMES),
  dataDir: Directory,
  restoredDir: v.nullable(Directory),
  initialCluster: v.string(),
  initialClusterToken: v.pipe(v.string(), v.regex(/^[\w.-]{1,100}$/, 'is not a token that this program created')),
  members: v.pipe(v.array(Member), v.minLength(1, 'is empty'), v.maxLength(MANY, 'is too long')),
  leftOut: v.pipe(
    v.array(v.strictObject({ id: Id, name: v.union([v.literal(''), MemberName]), reason: Text })),
    v.maxLength(MANY, 'is too long'),
  ),
};

const Content = v.pipe(
  v.strictObject({
    format: v.literal(FORMAT),
    ...entries,
    /** The file that starts etcd on each member; null where another program restores, or a directory was given. */
    configFile: v.nullable(Directory),
    /** Created with `--force`: for a cluster that still works. */
    force: v.boolean(),
    /** Ids of the cluster before this restore, the newest last. */
    previousClusterIds: v.pipe(v.array(Id), v.maxLength(MANY, 'is too long')),
    /** The members were given with --initial-cluster, and can be others than those of the snapshot. */
    membersGiven: v.optional(v.literal(true)),
    /** The snapshot is read from the second place. */
    fromCopy: v.optional(v.literal(true)),
  }),
  v.check(({ layout, dataDir, restoredDir, initialCluster, members }) => {
    const isUnique = new Set(members.map(({ name }) => name)).size === members.length;
    return (
      isUnique && restoredDir === restoredDirIn(layout, dataDir) && initialCluster === formatInitialCluster(members)
    );
  }, 'is inconsistent: restoredDir, initialCluster and members contradict each other'),
);

const FirstFormat = v.pipe(
  v.strictObject({
    format: v.literal(1),
    ...entries,
    steps: v.array(v.strictObject({ title: v.string(), on: v.string(), run: v.array(v.string()) })),
  }),
  v.transform((plan) => {
    const { steps: _, ...content } = plan;
    const configFile = LAYOUTS[plan.layout].configFile ?? null;
    return { ...content, format: FORMAT, configFile, force: false, previousClusterIds: [plan.clusterId] };
  }),
  Content,
);

/** What must be the same on all members. */
type PlanContent = v.InferOutput<typeof Content>;

/** With the sha256 of the content, which shows whether two plans are the same, and whether one was edited. */
export type Plan = PlanContent & { readonly digest: string };

/** Inside the data directory, to be on the same disk; null where another program restores. */
function restoredDirIn(layout: Layout, dataDir: string): string | null {
  return LAYOUTS[layout].restoresItself ? null : join(dataDir, 'restored');
}

/** @throws UsageError when it cannot be read, is not a plan, or was edited */
export async function readPlan(path: string): Promise<Plan> {
  const text = await readNamed(path, 'plan', 'Check the path of --from-plan and its permissions.');
  const { digest, ...rest } = parseObject(text.toString('utf8'));
  const { format, steps, ...content } = rest;
  if (format !== FORMAT && format !== 1) {
    throw new UsageError(
      `${printable(path)} is not a plan of this version.`,
      'Create one: etcd-snapshot restore --plan --output plan.json',
    );
  }
  // Steps are created from the content; those in the file are for readers of JSON, and are ignored.
  if (!Array.isArray(steps)) throw invalid(path, 'steps is missing, unknown or of the wrong type');
  const parsed = format === 1 ? parse(path, FirstFormat, rest) : parse(path, Content, { format, ...content });
  // In format 1 the digest covers the whole document as it was written.
  const itsDigest = digestOf(format === 1 ? rest : parsed);
  if (digest === itsDigest) return { ...parsed, digest: itsDigest };
  throw new UsageError(
    `The plan ${printable(path)} was changed: its digest does not match.`,
    'Copy the plan again. To change something, create a new plan, and use it on all members.',
  );
}

function parse<T>(path: string, schema: v.GenericSchema<unknown, T>, document: object): T {
  const checked = v.safeParse(schema, document);
  if (checked.success) return checked.output;
  throw invalid(path, issueIn(checked.issues));
}

function invalid(path: string, problem: string): UsageError {
  return new UsageError(
    `The plan ${printable(path)} is invalid: ${problem}.`,
    'Create a new one, and use it on all members: etcd-snapshot restore --plan --output plan.json',
  );
}

/** Empty where the document is not a JSON object. */
function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text, (key, part: unknown) => {
      if (key === '__proto__') throw new SyntaxError('no plan has this name');
      return part;
    });
    return typeof value === 'object' && value !== null ? Object.fromEntries(Object.entries(value)) : {};
  } catch {
    return {};
  }
}

function digestOf(document: object): string {
  return createHash('sha256').update(JSON.stringify(document)).digest('hex');
}

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
  /** Whether it is in the second place. */
  readonly fromCopy?: boolean;
}

/** @throws UsageError when the members to restore are uncertain, or the options contradict each other */
export function makePlan(name: string, size: number, record: SnapshotRecord, options: PlanOptions): Plan {
  const { sha256, revision, etcdVersion, clusterId, takenAt } = record;
  const { layout, config, force = false, previousClusterIds = [], initialCluster, now, fromCopy = false } = options;
  const { voters, leftOut } = membersFor(record, options);
  const preset = LAYOUTS[layout];
  const dataDir = options.dataDir ?? preset.dataDir;
  const configured = dataDirOf(config?.member, config?.path ?? '', options.dataDir);
  const members = voters.map(({ id, name: member, peerURLs }) => {
    const given = member === config?.member.name ? configured : options.dataDir;
    return { name: member, peerURLs: [...peerURLs], ...(id && { id }), ...(given && { dataDir: given }) };
  });
  const content: PlanContent = {
    format: FORMAT,
    madeAt: now.toISOString(),
    snapshot: { name, sha256, size, revision, etcdVersion: etcdVersion ?? 'unknown', takenAt: takenAt.toISOString() },
    ...{ clusterId, layout, dataDir, restoredDir: restoredDirIn(layout, dataDir) },
    initialCluster: formatInitialCluster(voters),
    initialClusterToken: newToken(),
    ...{ members, leftOut: [...leftOut], force },
    configFile: config?.path ?? (options.dataDir === undefined ? preset.configFile : undefined) ?? null,
    ...(initialCluster === undefined ? {} : { membersGiven: true as const }),
    previousClusterIds: [...new Set([...previousClusterIds, clusterId])],
    ...(fromCopy && { fromCopy }),
  };
  const checked = v.safeParse(Content, content);
  if (checked.success) return { ...checked.output, digest: digestOf(checked.output) };
  throw new UsageError(
    `Cannot create a plan from ${printable(name)}: ${issueIn(checked.issues)}.`,
    'Use another snapshot, or restore without a plan (docs/restore-reference.md).',
  );
}

function membersFor(record: SnapshotRecord, { initialCluster, file }: PlanOptions): MemberSet {
  if (initialCluster !== undefined) {
    const voters = parseInitialCluster(initialCluster);
    assertPossible(voters);
    return { voters, leftOut: [] };
  }
  if (file !== undefined && !namesVoters(record)) return membersToRestore(file);
  if (file !== undefined) assertAgrees(record, file);
  return membersToRestore(record);
}

/** @throws UsageError where the installer's program restores, not etcd's tool member by member */
export function assertOwnTool({ layout }: Plan): void {
  const { restoresItself, title } = LAYOUTS[layout];
  if (!restoresItself) return;
  throw new UsageError(
    `${title} restores the snapshot itself, on one server; the others get the data from it.`,
    'To see the steps, run: etcd-snapshot restore --plan --from-plan FILE',
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
