import { VerificationError } from '../errors.ts';
import {
  checksumWarning,
  invalidSnapshot,
  readThrough,
  type SnapshotSource,
  verifyStored,
} from '../snapshot/source.ts';
import { isReadable, storedJson, type StoredForm } from '../snapshot/stored-form.ts';
import { counted, paint, printable, statusTable } from '../text.ts';
import type { Arguments, Context, Outcome } from './command.ts';
import { openNamedOrNewest } from './snapshot-operand.ts';

/** Checks every page of a stored snapshot or of a local file, and changes nothing. */
export async function verify(context: Context, { operands: [operand], options }: Arguments): Promise<Outcome> {
  const source = await openNamedOrNewest(context, operand, options);
  const { stored } = source;
  if (stored !== undefined && !isReadable(stored)) return verifyStoredOnly(context, source, stored);
  const verdict = await readThrough(source, context);
  const { report } = verdict;
  const warning = checksumWarning(source, verdict);
  if (warning !== undefined) context.log.warn(warning[0], { hint: warning[1] });
  const faults: { kind: string; page?: number; message: string }[] = [...report.faults];
  if (source.problem !== undefined) faults.push({ kind: 'record', message: source.problem });
  if (source.record !== undefined && source.record.sha256 !== report.sha256) {
    faults.push({ kind: 'record', message: `its sha256 does not match its record, ${source.record.sha256}` });
  }
  const count = report.faultCount + faults.length - report.faults.length;
  const json = {
    name: source.name,
    checked: 'content',
    ...report,
    ...storedJson(stored),
    ...(source.signature === undefined ? {} : { signature: source.signature }),
    ok: count === 0,
    faults,
    faultCount: count,
  };
  const name = printable(source.name);
  if (count === 0) {
    const summary = source.skipHashCheck
      ? `${name}: every page is valid; the sha256 was not checked.`
      : `${name} is valid.`;
    return { text: `${statusTable(report)}\n${paint('green', summary)}`, json, summary };
  }
  const isUndecided = !verdict.ok && verdict.undecided;
  const lines = faults.map(
    // The kind of most problems of a page is `page`, and their message begins with its number.
    ({ kind, page, message }) =>
      `${kind}${page === undefined || kind === 'page' ? '' : ` (page ${page})`}: ${printable(message)}`,
  );
  const last = `${name} ${isUndecided ? 'could not be verified completely' : 'is not valid'}: ${counted(count, 'problem')}.`;
  const hint = 'Use another snapshot. To see them, run: etcd-snapshot list';
  const partialFailure = isUndecided
    ? new VerificationError(
        `${name} could not be verified completely.`,
        'Run `etcdutl snapshot status` on a machine with memory for the whole file.',
      )
    : invalidSnapshot(source, faults[0]?.message ?? '', verdict.ok ? undefined : verdict.kind, hint);
  return { text: [...lines, paint('red', last)].join('\n'), json, partialFailure };
}

/** Of an encrypted snapshot, without an identity that opens it. */
async function verifyStoredOnly(context: Context, source: SnapshotSource, stored: StoredForm): Promise<Outcome> {
  await verifyStored(source, stored, context);
  const summary = `${printable(source.name)}: the stored bytes match the record; the content was not checked.`;
  const hint = `To check it, give --identity FILE with the private key of ${stored.recipients.join(' or ')}.`;
  return {
    text: `${paint('green', summary)}\n${hint}`,
    json: {
      ...{ name: source.name, checked: 'stored', ok: true, ...storedJson(stored) },
      ...(source.signature === undefined ? {} : { signature: source.signature }),
      ...{ faults: [], faultCount: 0 },
    },
    summary,
  };
}
