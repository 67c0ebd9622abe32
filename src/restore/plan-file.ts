import { createHash, randomBytes } from 'node:crypto';
import { link, open, unlink } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import * as v from 'valibot';
import { TYPES } from '../config/variables.ts';
import { HeldDirectory } from '../directories.ts';
import { UsageError } from '../errors.ts';
import { onDisk, readNamed, statOf, sync } from '../files.ts';
import { factsOf, isLayout, type Layout, LAYOUTS } from '../installer-layouts.ts';
import { formatInitialCluster, type InitialMember } from '../member.ts';
import { snapshotName, takenAtOf } from '../snapshot/record.ts';
import { printable } from '../text.ts';
import { isPeerUrl } from '../url.ts';

// Values that become parts of commands, units and file names are as narrow as etcd and Azure allow, to refuse a hostile one
// before it is quoted. Messages follow the name of the value: "dataDir is not …".

const NAME = /^[\p{L}\p{N}_][\p{L}\p{N}\p{M}._:@+/~-]*$/u;
export const MemberName = v.pipe(
  v.string(),
  v.maxLength(255, 'is longer than 255 characters'),
  v.regex(
    NAME,
    'is not a member name that can be restored: letters, digits and ._:@+/~- only, a letter or digit first',
  ),
);

const PeerUrl = v.pipe(
  v.string(),
  v.check((url) => url.startsWith('http') && isPeerUrl(url), 'is not a peer URL: http(s)://host:port and nothing else'),
);

/** Of members and clusters, as etcdctl prints them. */
export const Id = v.pipe(v.string(), v.regex(/^[0-9a-f]{1,16}$/, 'is not an id of etcd, in lower-case hex'));

export const Sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'is not a sha256'));

const Directory = v.pipe(
  v.string(),
  v.maxLength(1024, 'is longer than 1024 characters'),
  v.regex(/^\P{C}*$/u, 'has control characters'),
  v.check((path) => path.startsWith('/') && path !== '/', 'is not an absolute path below /'),
  v.check((path) => resolve(path) === path, 'has empty parts, or parts that are . or ..'),
);

const NAME_LENGTH = snapshotName('', new Date(0)).length;
/** With any prefix that the configuration accepts. */
const SnapshotName = v.pipe(
  v.string(),
  v.check((name) => {
    const prefix = name.slice(0, -NAME_LENGTH);
    return takenAtOf(prefix, name) !== undefined && (prefix === '' || TYPES.prefix.pattern.test(prefix));
  }, 'is not the name of a snapshot of this program'),
);

const Time = v.pipe(v.string(), v.maxLength(40), v.isoTimestamp('is not a time'));

export const Count = v.pipe(v.number(), v.safeInteger('is not a whole number'), v.minValue(0, 'is negative'));

/** Text that is only shown, such as a version. */
export const Text = v.pipe(
  v.string(),
  v.maxLength(1024, 'is longer than 1024 characters'),
  v.regex(/^\P{C}*$/u, 'has control characters'),
);

export const Initial = {
  name: MemberName,
  peerURLs: v.pipe(v.array(PeerUrl), v.minLength(1, 'is empty'), v.maxLength(16, 'is too long')),
};

/** The first problem, such as `members.0.name is not …`. */
export function issueIn(issues: readonly v.BaseIssue<unknown>[]): string {
  const [issue] = issues;
  if (issue === undefined) return 'it is invalid';
  const path = (issue.path ?? []).map(({ key }) => String(key)).join('.');
  const said = issue.kind === 'schema' ? 'is missing, unknown or of the wrong type' : issue.message;
  return `${printable(path.slice(0, 80)) || 'it'} ${said}`;
}

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
export const FORMAT = 2;

const MANY = 100;

const LayoutName = v.picklist(Object.keys(LAYOUTS).filter(isLayout));

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
  layout: LayoutName,
  dataDir: Directory,
  restoredDir: v.nullable(Directory),
  initialCluster: v.string(),
  initialClusterToken: v.pipe(v.string(), v.regex(/^[\w.-]{1,100}$/, 'is not a token of ours')),
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
  }),
  v.check(
    (plan) => isConsistent(plan),
    'is inconsistent: restoredDir, initialCluster and members contradict each other',
  ),
);

const FirstFormat = v.strictObject({
  format: v.literal(1),
  ...entries,
  steps: v.array(v.strictObject({ title: v.string(), on: v.string(), run: v.array(v.string()) })),
});

/** What must be the same on all members. */
export type PlanContent = v.InferOutput<typeof Content>;

/** With the sha256 of the content, which shows whether two plans are the same, and whether one was edited. */
export type Plan = PlanContent & { readonly digest: string };

interface Common {
  readonly layout: Layout;
  readonly dataDir: string;
  readonly restoredDir: string | null;
  readonly initialCluster: string;
  readonly members: readonly InitialMember[];
}

function isConsistent({ layout, dataDir, restoredDir, initialCluster, members }: Common): boolean {
  const isUnique = new Set(members.map(({ name }) => name)).size === members.length;
  return isUnique && restoredDir === restoredDirIn(layout, dataDir) && initialCluster === formatInitialCluster(members);
}

/** Inside the data directory, to be on the same disk; null where another program restores. */
export function restoredDirIn(layout: Layout, dataDir: string): string | null {
  return factsOf(layout).restoresItself ? null : join(dataDir, 'restored');
}

/** @throws UsageError for an invalid name, URL or directory */
export function checkPlan(content: PlanContent, source: string): Plan {
  const checked = v.safeParse(Content, content);
  if (checked.success) return { ...checked.output, digest: digestOf(checked.output) };
  throw new UsageError(
    `Cannot create a plan from ${printable(source)}: ${issueIn(checked.issues)}.`,
    'Use another snapshot, or restore without a plan (docs/restore-reference.md).',
  );
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
  const parsed = parse(path, Content, format === 1 ? fromFirstFormat(path, rest) : { format, ...content });
  // In format 1 the digest is of the whole document as it was written.
  const itsDigest = digestOf(format === 1 ? rest : parsed);
  if (digest === itsDigest) return { ...parsed, digest: itsDigest };
  throw new UsageError(
    `The plan ${printable(path)} was changed: its digest does not match.`,
    'Copy the plan again; to change something create a new plan, and use it on all members.',
  );
}

function fromFirstFormat(path: string, document: object): object {
  const { steps: _, ...content } = parse(path, FirstFormat, document);
  const { configFile = null } = factsOf(content.layout);
  return { ...content, format: FORMAT, configFile, force: false, previousClusterIds: [content.clusterId] };
}

function parse<T>(path: string, schema: v.GenericSchema<unknown, T>, document: object): T {
  const checked = v.safeParse(schema, document);
  if (checked.success) return checked.output;
  throw invalid(path, issueIn(checked.issues));
}

function invalid(path: string, problem: string): UsageError {
  return new UsageError(
    `The plan ${printable(path)} is not one that this program created: ${problem}.`,
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

/**
 * @returns the directory that is to hold the plan
 * @throws UsageError unless a new plan can be written to the path: two plans of one restore must not be mixed up; UnsafeError
 */
export async function assertNoFile(path: string): Promise<HeldDirectory> {
  const parent = await onDisk(`Opening ${dirname(path)}`, () => HeldDirectory.open(dirname(path)));
  if ((await statOf(parent.at(basename(path)), 'refuse')) === undefined) return parent;
  throw new UsageError(
    `${printable(path)} already exists, and is not overwritten.`,
    'Show that plan with --plan --from-plan, or choose another file for the new plan.',
  );
}

/** The whole file appears in one step. @throws UsageError when something is there already */
export async function writePlan(path: string, document: object): Promise<void> {
  const parent = await assertNoFile(path);
  const part = parent.at(`${basename(path)}.${randomBytes(4).toString('hex')}.part`);
  const file = await onDisk(`Creating ${path}`, open(part, 'wx', 0o644));
  try {
    await onDisk(`Writing ${path}`, file.writeFile(`${JSON.stringify(document, undefined, 2)}\n`));
    await onDisk(`Writing ${path}`, file.sync());
    // Unlike a rename, a link never replaces a file.
    await onDisk(`Creating ${path}`, link(part, parent.at(basename(path))));
  } finally {
    await file.close();
    await unlink(part);
  }
  await onDisk(`Writing ${path}`, sync(parent.path));
}
