import { once } from 'node:events';
import { access, constants } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { onAbort } from '../abort.ts';
import { EtcdError, RunTimeout, UnsafeError, UsageError } from '../errors.ts';
import { killChild, startChild } from '../exec.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import type { SnapshotFacts } from '../snapshot/verify/verifier.ts';
import { formatInitialCluster, type InitialMember } from './initial-members.ts';

interface Ended {
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly killedBy: NodeJS.Signals | null;
  /** What it printed, on both of its outputs. */
  readonly output: string;
}

/** All that a program of etcd's needs of the environment; none of our variables, for they hold secrets. */
export const CHILD_ENVIRONMENT = { ETCDCTL_API: '3' };

/**
 * Runs a program to its end. An abort kills it and is thrown after it is gone, so that nobody writes any more.
 * @throws the abort's reason, as EtcdError when the time is over; Error with code `ENOENT` or `EACCES` when the program
 *   cannot be started
 */
export async function runProgram(program: string, args: readonly string[], signal: AbortSignal): Promise<Ended> {
  signal.throwIfAborted();
  const child = startChild(program, args, { env: CHILD_ENVIRONMENT, stdio: ['ignore', 'pipe', 'pipe'] });
  const stopWatching = onAbort(signal, () => killChild(child));
  let output = '';
  const keep = (text: string): void => void (output += text);
  child.stdout?.setEncoding('utf8').on('data', keep);
  child.stderr?.setEncoding('utf8').on('data', keep);
  try {
    const [code, killedBy] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
    if (signal.aborted) throw abortReason(program, signal);
    return { code, killedBy, output };
  } finally {
    stopWatching();
  }
}

/** What to end with after an abort while a program of etcd's was at work. */
export function abortReason(program: string, { reason }: AbortSignal): unknown {
  if (!(reason instanceof RunTimeout)) return reason;
  return new EtcdError(
    `${reason.message} while ${basename(program)} was at work.`,
    'Raise SNAPSHOT_TIMEOUT for a large database or a slow disk.',
    reason,
  );
}

/** Bytes of the first file of the raft log, which etcd allocates at once. */
export const WAL_SIZE = 64_000_000;

/** More than any cluster writes between a backup and its restore, so that no revision is ever used twice. */
export const BUMP = 1_000_000_000;

/** etcd's own program that makes a data directory from a snapshot. */
export interface RestoreTool {
  readonly path: string;
  /** Such as `etcdutl 3.6.16`. */
  readonly name: string;
  /** Such as `3.6.16`. */
  readonly version: string;
  /** Whether it can raise the revision: 3.5.10 and later. */
  readonly canBump: boolean;
}

/** What a member is told about itself and its cluster; the names are those of etcd's flags. */
export interface MemberParameters {
  readonly name: string;
  readonly initialCluster: readonly InitialMember[];
  readonly initialClusterToken: string;
  readonly initialAdvertisePeerUrls: readonly string[];
}

interface RestoreOrder {
  /** The snapshot. */
  readonly file: string;
  /** It has no sha256, or one that does not matter. */
  readonly skipHashCheck: boolean;
  readonly member: MemberParameters;
  /** Must not exist. */
  readonly dataDir: string;
  /** Must not exist; undefined = inside the data directory. */
  readonly walDir: string | undefined;
  /** By how much the revision is raised; 0 = not at all. */
  readonly bump: number;
}

/**
 * The first program on the search path that can restore: an `etcdutl`, else the `etcdctl` of 3.4 or 3.5.
 * @throws UsageError when there is none
 */
export async function findTool(searchPath: readonly string[], signal: AbortSignal): Promise<RestoreTool> {
  for (const program of ['etcdutl', 'etcdctl']) {
    for (const dir of searchPath) {
      const tool = await examine(program, join(dir, program), signal);
      if (tool !== undefined) return tool;
    }
  }
  throw new UsageError(
    'There is neither an etcdutl nor an etcdctl of 3.4 or 3.5 on the PATH, so nothing can restore.',
    'Run the image, which brings it, or put the etcdutl of the version that the members run on the PATH.',
  );
}

async function examine(program: string, path: string, signal: AbortSignal): Promise<RestoreTool | undefined> {
  if (!(await isExecutable(path))) return undefined;
  const version = /version: (\d+\.\d+\.\d+)/.exec((await runProgram(path, ['version'], signal)).output)?.[1];
  const help = (await runProgram(path, ['snapshot', 'restore', '--help'], signal)).output;
  if (version === undefined || !help.includes('--initial-cluster-token')) return undefined;
  return { path, name: `${program} ${version}`, version, canBump: help.includes('--bump-revision') };
}

export async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** Versions of etcd, undefined where nobody knows. */
interface WrittenBy {
  /** Of the data, such as `3.6.0`; its minor version decides what can read it. */
  readonly data: string | undefined;
  /** Of the members, for people, such as `3.6.16`. A file has the minor version only, such as `3.6`. */
  readonly members: string | undefined;
}

export function writtenBy(known: SnapshotRecord | SnapshotFacts): WrittenBy {
  if ('etcdVersion' in known) {
    return { data: known.storageVersion ?? known.etcdVersion, members: known.etcdVersion };
  }
  const data = known.storageVersion ?? known.clusterVersion;
  return { data, members: data?.split('.').slice(0, 2).join('.') };
}

/**
 * A note when the tool is of a later minor version than the snapshot, for then so must the members be.
 * @throws UnsafeError when the tool is older: etcd does not read the data of a later minor version
 */
export function assertFit(tool: RestoreTool, { data: snapshotVersion, members }: WrittenBy): string | undefined {
  if (snapshotVersion === undefined) return undefined;
  const [ofTool, ofSnapshot] = [minorOf(tool.version), minorOf(snapshotVersion)];
  if (ofTool === ofSnapshot) return undefined;
  if (ofTool > ofSnapshot) {
    return `${tool.name} restores a snapshot of etcd ${members}: start etcd ${tool.version} on it, no earlier minor version.`;
  }
  throw new UnsafeError(
    `${tool.name} is too old for a snapshot of etcd ${members}: etcd does not read the data of a later version.`,
    'Use the tools of the version that the members run: an image built with ETCD_VERSION, or another PATH.',
  );
}

/** A number that grows with the minor version. */
function minorOf(version: string): number {
  const [major = '', minor = ''] = version.split('.');
  return Number(major) * 1000 + Number(minor);
}

/** Makes the data directory. @throws EtcdError with what the tool said last; the abort's reason */
export async function runRestore(tool: RestoreTool, order: RestoreOrder, signal: AbortSignal): Promise<void> {
  const { file, skipHashCheck, member, dataDir, walDir, bump } = order;
  const args = [
    ...['snapshot', 'restore', file, '--data-dir', dataDir],
    ...(skipHashCheck ? ['--skip-hash-check'] : []),
    ...(walDir === undefined ? [] : ['--wal-dir', walDir]),
    ...['--name', member.name],
    ...['--initial-cluster', formatInitialCluster(member.initialCluster)],
    ...['--initial-cluster-token', member.initialClusterToken],
    ...['--initial-advertise-peer-urls', member.initialAdvertisePeerUrls.join(',')],
    ...(bump === 0 ? [] : ['--bump-revision', String(bump), '--mark-compacted']),
  ];
  const { code, killedBy, output } = await runProgram(tool.path, args, signal);
  if (code === 0) return;
  const last = output.trim().split('\n').at(-1) ?? '';
  throw new EtcdError(
    `${tool.name} could not restore the snapshot: ${killedBy === null ? last || `it ended with ${code}` : `it was ended by ${killedBy}`}.`,
    'Nothing was changed. Is there room on the disk, and memory for the database?',
  );
}
