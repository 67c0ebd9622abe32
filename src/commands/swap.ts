import { join } from 'node:path';
import { UsageError } from '../errors.ts';
import { swapIn } from '../restore/swap.ts';
import type { Arguments, Context, Outcome } from './command.ts';

interface SwapOptions {
  readonly 'data-dir'?: string;
  readonly restored?: string;
}

/** `restore --swap`: the restored data takes the place of a stopped member's, which is kept. */
export async function swap({ log, signal }: Context, { operands, options }: Arguments): Promise<Outcome> {
  const { 'data-dir': dataDir, restored } = options as SwapOptions;
  if (dataDir === undefined || operands.length > 0) {
    throw new UsageError(
      '--swap takes the data directory of a stopped etcd, and no snapshot.',
      'etcd-snapshot restore --swap --data-dir DIR [--restored DIR]',
    );
  }
  const swapped = await swapIn(dataDir, restored ?? join(dataDir, 'restored'), new Date(), signal);
  const { dataDir: place, aside } = swapped;
  const undo = aside === undefined ? null : `etcd-snapshot restore --swap --data-dir ${place} --restored ${aside}`;
  log.info('the restored data is in its place', { dataDir: place, old: aside ?? null });
  const lines = [
    `The restored data is in ${place}${aside === undefined ? '' : `, the old in ${aside}`}.`,
    ...(undo === null ? [] : [`To undo it, with etcd stopped:`, `  ${undo}`]),
  ];
  return { text: lines.join('\n'), json: { dataDir: place, old: aside ?? null, undo } };
}
