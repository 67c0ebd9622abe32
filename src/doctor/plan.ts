import { makePlan } from '../restore/plan.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import { type Check, ok, tried } from './check.ts';

/** A plan as `restore --plan` makes it, for what no plan can be made of cannot be restored on all members. */
export async function checkPlan(name: string, size: number, record: SnapshotRecord, now: Date): Promise<Check[]> {
  return tried('restore plan', async () => {
    // The layout decides only how the steps are written.
    const { members } = makePlan(name, size, record, { layout: 'kubeadm', now });
    return ok(
      'restore plan',
      `A plan can be made from the newest snapshot, for ${members.map(({ name: one }) => one).join(', ')}.`,
    );
  });
}
