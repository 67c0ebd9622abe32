import { randomBytes } from 'node:crypto';
import { link, open, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StorageError, UsageError } from '../errors.ts';
import { onDisk, statOf, sync } from '../files.ts';
import { inferLayout, namedLayout } from '../installer-layouts.ts';
import { Warnings } from '../log.ts';
import { assertNoQuorum } from '../restore/in-use.ts';
import { readMemberConfig } from '../restore/member-config.ts';
import { assertDirectory, makePlan, type Plan, readPlan } from '../restore/plan.ts';
import { stepsOf } from '../restore/runbooks.ts';
import { WorkPlace } from '../restore/target-directory.ts';
import type { Kept } from '../snapshot/inventory.ts';
import { keptText } from '../snapshot/marks.ts';
import type { SnapshotSource } from '../snapshot/source.ts';
import { afterColon, humanSize, printable } from '../text.ts';
import { type Arguments, type Context, openStore, type Outcome } from './command.ts';
import { openNamedOrNewest, readVerified } from './snapshot-operand.ts';

interface PlanOptions {
  readonly layout?: string;
  readonly 'data-dir'?: string;
  readonly from?: string;
  readonly 'from-plan'?: string;
  readonly force?: boolean;
  readonly output?: string;
  readonly 'initial-cluster'?: string;
}

/** The plan's file in the steps where it is not written to a file. */
const PLAN_FILE = 'plan.json';

/**
 * `restore --plan`: the parameters of all members, and the steps that restore them. Changes nothing. Everything that would
 * make a step fail is checked now.
 */
export async function showPlan(context: Context, args: Arguments): Promise<Outcome> {
  const options = args.options as PlanOptions;
  const { 'from-plan': saved, output } = options;
  if (saved !== undefined) {
    if (output !== undefined) {
      throw new UsageError(
        '--output cannot be combined with --from-plan: it writes a new plan, and --from-plan shows an existing one.',
        'Omit one of the two.',
      );
    }
    return outcomeOf(await readPlan(saved), saved);
  }
  if (output !== undefined) await assertNoFile(output);
  const warnings = new Warnings(context.log);
  const inferred = options.layout === undefined ? await inferLayout(context.config.etcd?.tls) : undefined;
  const layout = inferred?.layout ?? namedLayout(options.layout ?? '');
  if (inferred !== undefined) {
    warnings.add(`Using layout ${layout}: found ${inferred.sign} on this host.`, 'To use another one, give --layout.');
  }
  const dataDir = options['data-dir'] && assertDirectory(options['data-dir'], '--data-dir');
  const config = options.from && {
    path: assertDirectory(options.from, '--from'),
    member: await readMemberConfig(options.from),
  };
  if (options.force !== true) await assertNoQuorum(context.config.etcd, warnings);

  const source = await openNamedOrNewest(context, args.operands[0], args.options);
  if (source.record === undefined) {
    throw new UsageError(
      `${printable(source.name)} has no record: its cluster is unknown.`,
      'Use a snapshot that `etcd-snapshot list` shows with its record, or restore without a plan.',
    );
  }
  const facts = await readVerified(context, source);
  const plan = makePlan(source.name, source.size, source.record, {
    ...{ layout, dataDir: dataDir || undefined, config: config || undefined, force: options.force === true },
    ...{ previousClusterIds: context.config.retention.previousClusterIds, now: new Date() },
    fromCopy: context.config.storage?.place === 'copy',
    ...{ initialCluster: options['initial-cluster'], file: facts },
  });
  const file = output ?? PLAN_FILE;
  if (output !== undefined) {
    await writePlan(output, planJson(plan, file));
    context.log.info('plan written', { file: output, digest: plan.digest });
  }
  return outcomeOf(plan, file, await keptNow(context, source, warnings));
}

/** The note on a stored snapshot. A plan does not depend on it. */
async function keptNow(
  context: Context,
  { name, etag }: SnapshotSource,
  warnings: Warnings,
): Promise<Kept | undefined> {
  if (etag === undefined) return undefined;
  try {
    return (await (await openStore(context)).readMarks())(name);
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    warnings.add(`Whether the snapshot is marked as kept is not known: ${afterColon(error.message)}`, error.hint);
    return undefined;
  }
}

function outcomeOf(plan: Plan, file: string, kept?: Kept): Outcome {
  return { text: planText(plan, file, kept), json: planJson(plan, file) };
}

/** The document of `restore --plan --json`, which `--from-plan` reads. */
export function planJson({ digest, ...content }: Plan, file: string): object {
  return { ...content, steps: stepsOf({ ...content, digest }, file), digest };
}

/** The plan for people: what is the same on all members, and the steps. */
export function planText(plan: Plan, file: string, kept?: Kept): string {
  const { snapshot, initialCluster, initialClusterToken, dataDir, configFile, members, leftOut, digest } = plan;
  const { size, takenAt, revision, etcdVersion } = snapshot;
  const own = members.filter((member) => member.dataDir !== undefined && member.dataDir !== dataDir);
  const steps = stepsOf(plan, file);
  const rows = [
    ['snapshot', snapshot.name],
    ['', `${humanSize(size)}, taken ${takenAt}, revision ${revision}, etcd ${printable(etcdVersion)}`],
    ...(kept === undefined ? [] : [['', keptText(kept)]]),
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
    ['digest', `${digest.slice(0, 16)} (the same on all members)`],
    ...leftOut.map(({ id, name, reason }) => ['left out', `${name || id}: it ${printable(reason)}`]),
  ] as const;
  return [
    ...rows.map(([label = '', value = '']) => `${label.padEnd(16)}${value}`),
    ...steps.map(({ title, on, run }, index) => [`\n${index + 1}. ${title} (${on})`, ...run].join('\n   ')),
    `\nNothing was changed. Follow the ${steps.length} steps in this order.`,
  ].join('\n');
}

/** @throws UsageError unless a new plan can be written to the path: two plans of one restore must not be mixed up; UnsafeError */
export async function assertNoFile(path: string): Promise<WorkPlace> {
  const place = await WorkPlace.open(path);
  if ((await statOf(place.final, 'refuse')) === undefined) return place;
  throw new UsageError(
    `${printable(path)} already exists, and is not overwritten.`,
    'Show that plan with --plan --from-plan, or choose another file for the new plan.',
  );
}

/** The whole file appears in one step. @throws UsageError when something is there already */
export async function writePlan(path: string, document: object): Promise<void> {
  const { final } = await assertNoFile(path);
  const part = `${final}.${randomBytes(4).toString('hex')}.part`;
  const file = await onDisk(`Creating ${path}`, open(part, 'wx', 0o644));
  try {
    await onDisk(`Writing ${path}`, file.writeFile(`${JSON.stringify(document, undefined, 2)}\n`));
    await onDisk(`Writing ${path}`, file.sync());
    // Unlike a rename, a link never replaces a file.
    await onDisk(`Creating ${path}`, link(part, final));
  } finally {
    await file.close();
    await unlink(part);
  }
  await onDisk(`Writing ${path}`, sync(dirname(final)));
}
