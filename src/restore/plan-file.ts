import { createHash, randomBytes } from 'node:crypto';
import { link, open, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import * as v from 'valibot';
import { TYPES } from '../config/variables.ts';
import { UsageError } from '../errors.ts';
import { readNamed } from '../files.ts';
import { snapshotName, takenAtOf } from '../snapshot/record.ts';
import { printable } from '../text.ts';
import { onDisk, statOf, sync } from '../disk.ts';
import { formatInitialCluster, type InitialMember } from './initial-members.ts';
import { factsOf, isLayout, type Layout, LAYOUTS } from '../layouts.ts';

/**
 * The values that become parts of commands, units and file names. Each is as narrow as etcd and Azure allow it to be, so that a
 * hostile one is refused before it is quoted. Messages follow the name of the value: "dataDir is not …".
 */

const NAME = /^[\p{L}\p{N}_][\p{L}\p{N}\p{M}._:@+/~-]*$/u;
export const MemberName = v.pipe(
  v.string(),
  v.maxLength(255, 'is longer than 255 characters'),
  v.regex(
    NAME,
    'is not a member name that can be restored: letters, digits and ._:@+/~- only, a letter or digit first',
  ),
);

/** etcd demands scheme, host and port, and refuses a path. */
const URL_OF_PEER = /^https?:\/\/([A-Za-z0-9_]([\w.-]*\w)?|\[[0-9A-Fa-f:.]+(%25[\w.-]+)?\]):\d{1,5}$/;
const PeerUrl = v.pipe(
  v.string(),
  v.maxLength(512, 'is longer than 512 characters'),
  v.regex(URL_OF_PEER, 'is not a peer URL: scheme://host:port and nothing else'),
  v.check((url) => URL.canParse(url), 'is not a peer URL: its host or port is not possible'),
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

/** A name that this program gives to snapshots, with any prefix that it accepts. */
const NAME_LENGTH = snapshotName('', new Date(0)).length;
const SnapshotName = v.pipe(
  v.string(),
  v.check((name) => {
    const prefix = name.slice(0, -NAME_LENGTH);
    return takenAtOf(prefix, name) !== undefined && (prefix === '' || TYPES.prefix.pattern.test(prefix));
  }, 'is not the name of a snapshot of this program'),
);

/** A time in ISO 8601, UTC. */
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

/** The first thing that is wrong, as in `members.0.name is not …`, for people. */
export function issueIn(issues: readonly v.BaseIssue<unknown>[]): string {
  const [issue] = issues;
  if (issue === undefined) return 'it cannot be understood';
  const path = (issue.path ?? []).map(({ key }) => String(key)).join('.');
  const said = issue.kind === 'schema' ? 'is missing, unknown or of the wrong type' : issue.message;
  return `${printable(path.slice(0, 80)) || 'it'} ${said}`;
}

/**
 * A directory that an option or a file names.
 * @param what names it in the message
 * @returns it as an absolute path
 * @throws UsageError
 */
export function assertDirectory(path: string, what: string): string {
  const checked = v.safeParse(Directory, resolve(path));
  if (checked.success) return checked.output;
  throw new UsageError(
    `${what} cannot be used: ${printable(path.slice(0, 200))} ${checked.issues[0].message}.`,
    'Name a directory by its absolute path.',
  );
}

/** The version of the plan's own format. Files of format 1 are read, too. */
export const FORMAT = 2;

const MANY = 100;

const LayoutName = v.picklist(Object.keys(LAYOUTS).filter(isLayout));

const Member = v.strictObject({
  ...Initial,
  /** In the cluster that the snapshot was taken of. */
  id: v.optional(Id),
  /** Where its etcd keeps its data, if somebody said so; otherwise it is where the layout has it. */
  dataDir: v.optional(Directory),
});

/** In the order in which the digest is made of them. */
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

const Facts = v.pipe(
  v.strictObject({
    format: v.literal(FORMAT),
    ...entries,
    /** The file that starts etcd on each of the members; null where another program restores, or a directory was given. */
    configFile: v.nullable(Directory),
    /** Made with `--force`: also while the cluster works. */
    force: v.boolean(),
    /** Ids that the cluster had before it is restored, the newest last. */
    previousClusterIds: v.pipe(v.array(Id), v.maxLength(MANY, 'is too long')),
    /** The members were given by hand, and need not be those of the snapshot. */
    membersGiven: v.optional(v.literal(true)),
  }),
  v.check(
    (facts) => isConsistent(facts),
    'contradicts itself: restoredDir, initialCluster and members do not fit together',
  ),
);

const FirstFormat = v.strictObject({ format: v.literal(1), ...entries, steps: v.array(v.unknown()) });

/** What must be the same on all members, made once. */
export type PlanFacts = v.InferOutput<typeof Facts>;

/** With the sha256 of all the rest, which shows that two plans are the same, and whether one was edited. */
export type Plan = PlanFacts & { readonly digest: string };

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

/** Inside the data directory, and so on the same disk; null where another program restores. */
export function restoredDirIn(layout: Layout, dataDir: string): string | null {
  return factsOf(layout).restoresItself ? null : join(dataDir, 'restored');
}

/** Checks what a plan is to be made of. @throws UsageError for a name, URL or directory that cannot be right */
export function sealPlan(facts: PlanFacts, source: string): Plan {
  const checked = v.safeParse(Facts, facts);
  if (checked.success) return { ...checked.output, digest: digestOf(checked.output) };
  throw new UsageError(
    `No plan can be made from ${printable(source)}: ${issueIn(checked.issues)}.`,
    'Plan with another snapshot, or restore by flags (README, "Without a plan").',
  );
}

/** @throws UsageError when it cannot be read, is no plan, or was edited */
export async function readPlan(path: string): Promise<Plan> {
  const text = await readNamed(path, 'plan', 'Check the path of --from-plan and its permissions.');
  const document = parseObject(text.toString('utf8'));
  const { digest, ...rest } = document;
  const format = rest['format'];
  if (format !== FORMAT && format !== 1) {
    throw new UsageError(
      `${printable(path)} is not a plan of this version.`,
      'Make one: etcd-snapshot restore --plan --output plan.json',
    );
  }
  const { facts, itsDigest } = format === 1 ? parseFirstFormat(path, rest) : parseFacts(path, rest);
  if (digest === itsDigest && itsDigest !== undefined) return { ...facts, digest: itsDigest };
  throw new UsageError(
    `The plan ${printable(path)} is not as it was made: its digest does not fit.`,
    'Copy the plan again; to change something make a new one, and use that on all members.',
  );
}

interface Parsed {
  readonly facts: PlanFacts;
  /** Undefined where the document is nested deeper than anything that this program writes. */
  readonly itsDigest: string | undefined;
}

/** Steps are shown from the facts; those in the file are for readers of JSON, and count for nothing. */
function parseFacts(path: string, { steps, ...rest }: Record<string, unknown>): Parsed {
  const checked = v.safeParse(Facts, Array.isArray(steps) ? rest : { ...rest, steps });
  if (!checked.success) throw misshapen(path, checked.issues);
  return { facts: checked.output, itsDigest: digestOf(checked.output) };
}

/** Its digest is of the text as it was written, steps included. */
function parseFirstFormat(path: string, rest: Record<string, unknown>): Parsed {
  const first = v.safeParse(FirstFormat, rest);
  if (!first.success) throw misshapen(path, first.issues);
  const { steps: _, ...known } = first.output;
  const { configFile = null } = factsOf(known.layout);
  const facts = { ...known, format: FORMAT, configFile, force: false, previousClusterIds: [known.clusterId] };
  const checked = v.safeParse(Facts, facts);
  if (!checked.success) throw misshapen(path, checked.issues);
  try {
    return { facts: checked.output, itsDigest: digestOf(rest) };
  } catch {
    return { facts: checked.output, itsDigest: undefined };
  }
}

function misshapen(path: string, issues: readonly v.BaseIssue<unknown>[]): UsageError {
  return new UsageError(
    `The plan ${printable(path)} is not one that this program made: ${issueIn(issues)}.`,
    'Make a new one, and use it on all members: etcd-snapshot restore --plan --output plan.json',
  );
}

/** Empty where a document is no object. */
function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text, (key, part: unknown) => {
      if (key === '__proto__') throw new SyntaxError('no document of ours has this name');
      return part;
    });
    return typeof value === 'object' && value !== null ? Object.fromEntries(Object.entries(value)) : {};
  } catch {
    return {};
  }
}

function digestOf(facts: object): string {
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex');
}

/** @throws UsageError unless a plan can be written to the path: two plans for one restore must not be mixed up */
export async function assertNoFile(path: string): Promise<void> {
  if ((await onDisk(`Looking at ${path}`, statOf(path))) !== undefined) throw isThere(path);
  const above = dirname(resolve(path));
  if ((await onDisk(`Looking at ${above}`, statOf(above)))?.isDirectory() === true) return;
  throw new UsageError(`There is no directory ${printable(above)} for the plan.`, 'Check the path of --output.');
}

/** The whole file appears in one step. @throws UsageError when something is there already */
export async function writePlan(path: string, document: object): Promise<void> {
  const part = `${path}.${randomBytes(4).toString('hex')}.part`;
  const file = await onDisk(`Creating ${part}`, open(part, 'wx', 0o644));
  try {
    await onDisk(`Writing ${part}`, file.writeFile(`${JSON.stringify(document, undefined, 2)}\n`));
    await onDisk(`Writing ${part}`, file.sync());
    // Unlike a rename, a link never replaces what somebody else has put there.
    await onDisk(`Creating ${path}`, link(part, path));
  } finally {
    await file.close();
    await unlink(part);
  }
  await onDisk(`Writing ${path}`, sync(dirname(resolve(path))));
}

function isThere(path: string): UsageError {
  return new UsageError(
    `${printable(path)} is there already.`,
    `Show that plan with --plan --from-plan, or name another file: a new plan is another one, and nothing is overwritten.`,
  );
}
