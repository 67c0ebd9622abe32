import { UsageError } from '../errors.ts';
import { Warnings } from '../log.ts';
import { assertNoQuorum } from '../restore/in-use.ts';
import { inferLayout, type Layout, namedLayout } from '../installer-layouts.ts';
import { readMemberConfig } from '../restore/member-config.ts';
import { assertDirectory, assertNoFile, type Plan, readPlan, writePlan } from '../restore/plan-file.ts';
import { makePlan, planJson, planText } from '../restore/plan.ts';
import { printable } from '../text.ts';
import type { Arguments, Context, Outcome } from './command.ts';
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
        '--output writes a new plan, and --from-plan shows an existing one.',
        'Omit one of the two.',
      );
    }
    return outcomeOf(await readPlan(saved), saved);
  }
  if (output !== undefined) await assertNoFile(output);
  const { layout, sign } = await layoutFor(context, options.layout);
  const warnings = new Warnings(context.log);
  if (sign !== undefined) warnings.add(`Using layout ${layout}: found ${sign} on this host.`, 'Or give --layout.');
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
  const read = await readVerified(context, source);
  const plan = makePlan(source.name, source.size, source.record, {
    ...{ layout, dataDir: dataDir || undefined, config: config || undefined, force: options.force === true },
    ...{ previousClusterIds: context.config.retention.previousClusterIds, now: new Date() },
    ...{ initialCluster: options['initial-cluster'], file: read },
  });
  const file = output ?? PLAN_FILE;
  if (output !== undefined) {
    await writePlan(output, planJson(plan, file));
    context.log.info('plan written', { file: output, digest: plan.digest });
  }
  return outcomeOf(plan, file);
}

/** The named layout, or that of this host. @throws UsageError */
async function layoutFor(
  { config }: Context,
  name: string | undefined,
): Promise<{ readonly layout: Layout; readonly sign?: string }> {
  return name === undefined ? inferLayout(config.etcd?.tls) : { layout: namedLayout(name) };
}

function outcomeOf(plan: Plan, file: string): Outcome {
  return { text: planText(plan, file), json: planJson(plan, file) };
}
