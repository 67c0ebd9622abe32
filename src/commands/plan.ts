import { UsageError } from '../errors.ts';
import { makePlan, planText, readPlan } from '../restore/plan.ts';
import { isLayout, LAYOUTS } from '../restore/layouts.ts';
import type { Arguments, Context, Outcome } from './command.ts';
import { openNamedOrNewest } from './operand.ts';

interface PlanOptions {
  readonly layout?: string;
  readonly 'data-dir'?: string;
  readonly 'from-plan'?: string;
}

/** `restore --plan`: what every member is to be told, and the steps for all of them. Changes nothing. */
export async function showPlan(context: Context, args: Arguments): Promise<Outcome> {
  const { layout = 'aks-engine', 'data-dir': dataDir, 'from-plan': file } = args.options as PlanOptions;
  const [operand] = args.operands;
  if (file !== undefined) {
    const saved = await readPlan(file);
    return { text: planText(saved), json: saved };
  }
  if (!isLayout(layout)) {
    throw new UsageError(`There is no layout ${layout}.`, `Layouts: ${Object.keys(LAYOUTS).join(', ')}.`);
  }
  const source = await openNamedOrNewest(context, operand);
  if (source.record === undefined) {
    throw new UsageError(
      `${source.name} has no record, so nobody knows of which cluster it is.`,
      'Plan with a snapshot that `etcd-snapshot list` shows with its record, or restore by flags.',
    );
  }
  const plan = makePlan(source.name, source.size, source.record, { layout, dataDir, now: new Date() });
  return { text: planText(plan), json: plan };
}
