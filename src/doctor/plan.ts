import { UsageError, VerificationError } from '../errors.ts';
import { makePlan } from '../restore/plan.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import { type Check, fail, ok } from './check.ts';

/** A plan as `restore --plan` makes it, for what no plan can be made of cannot be restored on all members. */
export function checkPlan(name: string, size: number, record: SnapshotRecord, now: Date): Check {
  const what = 'restore plan';
  try {
    // The layout decides only how the steps are written.
    const { members } = makePlan(name, size, record, { layout: 'kubeadm', now });
    return ok(
      what,
      `A plan can be made from the newest snapshot, for ${members.map((member) => member.name).join(', ')}.`,
    );
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    // By the same code with which a drill of it ends.
    const hint = `Take a backup: its record has the members as the cluster lists them now. ${error.hint}`;
    return fail(what, new VerificationError(error.message, hint, error));
  }
}
