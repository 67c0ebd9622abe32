import type { Config } from '../config/config.ts';
import { ExitCode, messageOf, UsageError, VerificationError, WorkerError } from '../errors.ts';
import type { MemberStatus } from '../etcd/messages.ts';
import { checkVersion, findTool } from '../restore/etcd-tool.ts';
import { makePlan } from '../restore/plan.ts';
import type { Signatures } from '../sealed/signature.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import { DEFAULT_RESERVE, SpoolFile } from '../spool/spool-file.ts';
import { humanSize } from '../text.ts';
import { type Check, fail, ok, tried, warn } from './check.ts';

/** Names of snapshots have seconds: a larger difference would confuse people. */
const WARN_MS = 30_000;
/** Azure refuses requests that are older (specification: errors; clock skew). */
const REFUSED_MS = 15 * 60_000;

/** @param aheadMs milliseconds by which the clock of this host is ahead of the other one; negative = behind */
export function judgeClock(whose: string, aheadMs: number): Check {
  const what = 'clock';
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  const difference = `The clock of this host is ${seconds} s ${aheadMs > 0 ? 'ahead of' : 'behind'} that of ${whose}.`;
  const hint = 'Synchronize the time of this host (chrony, systemd-timesyncd).';
  if (Math.abs(aheadMs) >= REFUSED_MS) return fail(what, new WorkerError(ExitCode.usage, difference, hint));
  if (Math.abs(aheadMs) >= WARN_MS) return warn(what, difference, hint);
  return ok(what, `The clock of this host agrees with that of ${whose}.`);
}

/** Makes a plan as `restore --plan` does: without one, a snapshot cannot be restored on all members. */
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
    const hint = `Take a backup: its record lists the current members. ${error.hint}`;
    return fail(what, new VerificationError(error.message, hint, error));
  }
}

/** Which keys sign and verify. */
export function checkSignatures({ signingKeyId, verificationKeyIds, areRequired }: Signatures): Check {
  const what = 'signatures';
  const counted = areRequired
    ? `only those signed by ${verificationKeyIds.join(' or ')} count`
    : 'unsigned ones count as well';
  if (signingKeyId !== undefined) return ok(what, `New snapshots are signed by ${signingKeyId}; ${counted}.`);
  const sentence = `There is no signing key, but ${counted}: a backup with these settings is refused.`;
  return warn(what, sentence, 'Set SNAPSHOT_SIGNING_KEY_FILE where backups run.');
}

/** Whether a snapshot of so many bytes could be spilled to the spool's directory. */
export async function checkSpool(
  { spoolDir: dir, spoolReserve: reserve = DEFAULT_RESERVE }: Pick<Config, 'spoolDir' | 'spoolReserve'>,
  bytes: number,
): Promise<Check> {
  const what = 'spool';
  if (dir === undefined) return ok(what, 'SNAPSHOT_SPOOL_DIR is not set: if the uplink is slow, etcd has to wait.');
  try {
    const file = await SpoolFile.create({ dir, reserve, bytes, maxRecord: 1 });
    await file.close();
    return ok(what, `${dir} has space for a snapshot of ${humanSize(bytes)}.`);
  } catch (error) {
    const sentence = `${dir} cannot be used as a spool: ${messageOf(error)}.`;
    return warn(
      what,
      sentence,
      'Set SNAPSHOT_SPOOL_DIR to a directory with space for a snapshot: if the uplink is slow, etcd has to wait.',
    );
  }
}

/** Whether etcd's restore tool is here and fits the version of the members. Another image can still restore. */
export async function checkTool(
  searchPath: readonly string[],
  statuses: readonly MemberStatus[],
  signal: AbortSignal,
): Promise<Check[]> {
  const what = 'restore tool';
  const checks = await tried(what, async () => {
    const tool = await findTool(searchPath, signal);
    const versions = [...new Set(statuses.map(({ version }) => version))];
    const [note] = versions.flatMap((version) => checkVersion(tool, { data: version, members: version }) ?? []);
    return ok(what, note === undefined ? `${tool.name} can restore here.` : `${tool.name} can restore here; ${note}`);
  });
  return checks.map((check) => (check.state === 'ok' ? check : warn(what, check.finding, check.hint ?? '')));
}
