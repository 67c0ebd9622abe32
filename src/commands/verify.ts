import { VerificationError } from '../errors.ts';
import { invalidSnapshot, readThrough } from '../snapshot/source.ts';
import { printable } from '../text.ts';
import type { Arguments, Context, Outcome } from './command.ts';
import { openSource } from './operand.ts';
import { statusTable } from './tables.ts';

/** Checks every page of a stored snapshot or of a local file, and changes nothing. */
export async function verify(context: Context, { operands: [operand = ''], options }: Arguments): Promise<Outcome> {
  const source = await openSource(context, operand, options);
  const verdict = await readThrough(source, context);
  const { report } = verdict;
  const faults: { kind: string; page?: number; message: string }[] = [...report.faults];
  if (source.problem !== undefined) faults.push({ kind: 'record', message: source.problem });
  if (source.record !== undefined && source.record.sha256 !== report.sha256) {
    faults.push({ kind: 'record', message: `its sha256 is not that of its record, ${source.record.sha256}` });
  }
  const count = report.faultCount + faults.length - report.faults.length;
  const json = { name: source.name, ...report, ok: count === 0, faults, faultCount: count };
  if (count === 0) {
    const summary = source.skipHashCheck
      ? `Every page of ${source.name} is valid; its sha256 was not checked.`
      : `${source.name} is a sound snapshot.`;
    return { text: statusTable(report), json, summary };
  }
  const lines = faults.map(
    ({ kind, page, message }) => `${kind}${page === undefined ? '' : ` (page ${page})`}: ${printable(message)}`,
  );
  const text = [...lines, `${count} ${count === 1 ? 'fault' : 'faults'} found`].join('\n');
  const hint = 'Use another snapshot: `etcd-snapshot list` shows what there is.';
  const partialFailure =
    !verdict.ok && verdict.undecided
      ? new VerificationError(
          `${printable(source.name)} cannot be verified in one pass.`,
          'Ask etcdutl snapshot status on a machine with memory for the whole file.',
        )
      : invalidSnapshot(source, faults[0]?.message ?? '', verdict.ok ? undefined : verdict.kind, hint);
  return { text, json, partialFailure };
}
