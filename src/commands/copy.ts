import { copyMissing, type CopyResult, failureOf } from '../copy/copy-missing.ts';
import { ExitCode, WorkerError } from '../errors.ts';
import { Warnings } from '../log.ts';
import { copyMetrics } from '../monitoring/metrics.ts';
import { warnAboutCatalogue } from '../retention/apply.ts';
import { planRetention } from '../retention/retention-plan.ts';
import { assertStored, hintAboutMissing } from '../snapshot/operand-name.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import type { BlobStore } from '../store/store.ts';
import { counted, humanAge, humanSize, printable } from '../text.ts';
import { type Arguments, type Context, openCopy, openStore, type Outcome } from './command.ts';
import { assertCounts } from './snapshot-operand.ts';

/** Copies the snapshots that the second place lacks, or those that are named. Deletes and overwrites nothing. */
export async function copy(context: Context, { operands }: Arguments): Promise<Outcome> {
  const { config, log, startProgress } = context;
  const warnings = new Warnings(log);
  const first = await openStore(context);
  const second = await openCopy(context);
  const listing = await first.listAll();
  const now = new Date();
  warnAboutCatalogue(planRetention(listing.blobs, config.retention, now), warnings, now);
  const named = new Set<string>();
  for (const operand of operands) named.add(await namedSnapshot(first, listing.blobs, operand));
  const isWanted = (name: string): boolean => operands.length === 0 || named.has(name);
  const result = await copyMissing({ first, second }, listing, isWanted, { startProgress, log, warnings });
  const { failure: _, ...compared } = result;
  const summary = summaryOf(result, second);
  const failure = failureOf(result);
  return {
    text: [...result.copied.map(line), summary].join('\n'),
    summary,
    json: {
      container: first.containerName,
      copyContainer: second.containerName,
      ...compared,
      findings: warnings.sentences,
    },
    measured: copyMetrics(result),
    ...(failure && { partialFailure: failure }),
  };
}

/** @throws UsageError for a file; WorkerError (no such snapshot); VerificationError for a blob that is no snapshot */
async function namedSnapshot(first: BlobStore, blobs: readonly StoredBlob[], operand: string): Promise<string> {
  assertStored(operand);
  const found = blobs.find(({ name }) => name === operand || name === `${first.prefix}${operand}`);
  if (found === undefined) {
    throw new WorkerError(
      ExitCode.noSuchSnapshot,
      `There is no snapshot ${printable(operand)} in container ${first.containerName}.`,
      `${await hintAboutMissing(first, operand)}. To see the snapshots, run: etcd-snapshot list`,
    );
  }
  return assertCounts(operand, found).name;
}

function line({ name, size, bundle }: CopyResult['copied'][number]): string {
  return `${printable(name)} was copied (${humanSize(size)}${bundle ? ', with its bundle' : ''}).`;
}

function summaryOf(
  { copied, present, readBack, missing, lagSeconds }: CopyResult,
  { containerName }: BlobStore,
): string {
  const state = missing === 0 ? 'none is missing' : `${missing} missing, ${humanAge(lagSeconds * 1000)} behind`;
  const earlier = readBack.length === 0 ? '' : `${readBack.length} of an earlier run read back, `;
  return `${counted(copied.length, 'snapshot')} copied to container ${containerName}, ${earlier}${present} there before: ${state}.`;
}
