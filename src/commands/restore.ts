import { Stopwatch } from '../backup/stopwatch.ts';
import { UsageError } from '../errors.ts';
import { Findings } from '../findings.ts';
import { bytesAt, fetchVerified, isResumable } from '../restore/fetch.ts';
import { formatInitialCluster } from '../restore/members.ts';
import { memberFor, type Resolved } from '../restore/parameters.ts';
import { demandPlanned } from '../restore/plan.ts';
import { demandNoQuorum } from '../restore/quorum.ts';
import { ownerFor, Target } from '../restore/target.ts';
import { BUMP, demandFit, findTool, type MemberParameters, type RestoreTool, runRestore } from '../restore/tool.ts';
import { dataDirOf, isOneOfSeveral, nextStep, readWish, type RestoreOptions, type Wish } from '../restore/wish.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import type { SnapshotFacts } from '../snapshot/verify.ts';
import type { SnapshotSource } from '../source.ts';
import type { Arguments, Context, Outcome } from './command.ts';
import { download } from './download.ts';
import { openNamedOrNewest } from './operand.ts';
import { showPlan } from './plan.ts';
import { swap } from './swap.ts';

/**
 * Makes the data directory of one member from a snapshot: everything that could be wrong is asked before anything is
 * written, the snapshot is verified completely while it comes, etcd's own tool does the restore, and the directory appears in
 * one step. Old data is never touched; that is `--swap`'s job, when all members are stopped.
 */
export async function restore(context: Context, args: Arguments): Promise<Outcome> {
  if (args.options['download'] !== undefined) return download(context, args);
  if (args.options['plan'] === true) return showPlan(context, args);
  if (args.options['swap'] === true) return swap(context, args);
  const { config, log, signal } = context;
  const options = args.options as RestoreOptions;
  const watch = new Stopwatch();
  const findings = new Findings(log);

  const wish = await readWish(options);
  const tool = await findTool(context.searchPath, signal);
  if (options.force !== true) await watch.time('quorum', demandNoQuorum(config.etcd, findings));
  const source = await chooseSource(context, args.operands[0], wish);
  const foretold = source.record && decide(source, wish, tool, source.record);
  const place = dataDirOf(options, wish);
  const owner = await ownerFor(place, options['owner-from']);
  const target = await Target.prepare(place, options['wal-dir'], signal);
  try {
    await target.demandRoom(source.size - (await bytesAt(source, target.work)), source.size);

    const { file, facts } = await watch.time('fetch', fetchVerified(source, target.work, context));
    const { member, notes } = foretold ?? decide(source, wish, tool, facts);
    for (const note of notes) findings.add(note);
    const bump = bumpOf(options, tool, findings);

    const order = { file, member, dataDir: target.freshDataDir, walDir: target.freshWalDir, bump };
    await watch.time('restore', runRestore(tool, order, signal));
    await watch.time('place', target.place(owner));
    log.info('the data directory is restored', { dataDir: target.dataDir, tool: tool.name, member: member.name });

    const { dataDir, walDir = null } = target;
    const { sha256, revision: snapshotRevision, liveKeys = null } = facts;
    const next = nextStep(dataDir, wish);
    const done = { name: source.name, dataDir, tool: tool.name, member, revision: snapshotRevision + bump, next };
    return {
      text: textOf(done),
      summary: summaryOf(done),
      json: {
        ...{ ...done, walDir, sha256, snapshotRevision, liveKeys },
        member: { ...member, initialCluster: formatInitialCluster(member.initialCluster) },
        ...{ durationsMs: watch.durations(), findings: findings.sentences },
      },
    };
  } catch (error) {
    await target.abandon(isResumable(error));
    throw error;
  }
}

/** The one that was named, the plan's, or the newest; but members that choose on their own may choose differently. */
async function chooseSource(context: Context, operand: string | undefined, wish: Wish): Promise<SnapshotSource> {
  const name = operand ?? wish.plan?.snapshot.name;
  if (name !== undefined || !isOneOfSeveral(wish)) return openNamedOrNewest(context, name);
  throw new UsageError(
    'All members must be restored from the same snapshot, and none was named.',
    'Name one that `etcd-snapshot list` shows, or make a plan: etcd-snapshot restore --plan',
  );
}

/**
 * Everything that is decided by what the snapshot is of: by its record before a byte is read, else by its content.
 * @throws UsageError, UnsafeError, VerificationError
 */
function decide(
  source: SnapshotSource,
  wish: Wish,
  tool: RestoreTool,
  known: SnapshotRecord | SnapshotFacts,
): Resolved {
  if (wish.plan !== undefined) demandPlanned(wish.plan, source.name, known.sha256);
  const writtenBy = 'etcdVersion' in known ? known.etcdVersion : known.clusterVersion;
  const note = demandFit(tool, known.storageVersion ?? writtenBy);
  const { member, notes } = memberFor(wish, known);
  return { member, notes: note === undefined ? notes : [note, ...notes] };
}

function bumpOf(options: RestoreOptions, { name, canBump }: RestoreTool, findings: Findings): number {
  if (options['no-bump'] === true) return 0;
  if (canBump) return BUMP;
  findings.add(
    `${name} cannot raise the revision: what had watched the old cluster must be restarted.`,
    'Restart the API servers, controllers, schedulers, kubelets and everything else that watches the API.',
  );
  return 0;
}

interface Done {
  readonly name: string;
  readonly dataDir: string;
  readonly tool: string;
  readonly member: MemberParameters;
  readonly revision: number;
  readonly next: string;
}

function summaryOf({ name, dataDir, tool, member, revision }: Done): string {
  return `Restored ${name} to ${dataDir} as member ${member.name}, at revision ${revision}, by ${tool}.`;
}

function textOf(done: Done): string {
  const { member, next } = done;
  const names = member.initialCluster.map((other) => other.name).join(', ');
  return [
    summaryOf(done),
    `When this is done on all members (${names}), and etcd and the API servers are stopped on all of them:`,
    `  ${next}`,
  ].join('\n');
}
