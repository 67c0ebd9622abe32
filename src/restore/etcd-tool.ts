import { addAbortListener, once } from 'node:events';
import { statSync } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { EtcdError, RunTimeout, UnsafeError, UsageError } from '../errors.ts';
import { formatInitialCluster } from '../member.ts';
import { killChild, startChild } from '../process.ts';
import type { StartProgress } from '../progress.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import type { SnapshotFacts } from '../snapshot/verify/verdict.ts';
import type { MemberParameters } from './restore-request.ts';

interface Result {
  /** Null when a signal killed it. */
  readonly code: number | null;
  readonly killedBy: NodeJS.Signals | null;
  /** Of stdout and stderr. */
  readonly output: string;
}

/** The whole environment of etcd's programs: our own variables contain secrets. */
export const CHILD_ENVIRONMENT = { ETCDCTL_API: '3' };

/**
 * Runs a program to its end. An abort kills it, and is thrown after it has ended.
 * @throws the abort's reason, as EtcdError after a timeout; Error with code `ENOENT` or `EACCES` when it cannot be started
 */
export async function runProgram(program: string, args: readonly string[], signal: AbortSignal): Promise<Result> {
  signal.throwIfAborted();
  const child = startChild(program, args, { env: CHILD_ENVIRONMENT, stdio: ['ignore', 'pipe', 'pipe'] });
  const listener = addAbortListener(signal, () => killChild(child));
  let output = '';
  const keep = (text: string): void => void (output += text);
  child.stdout?.setEncoding('utf8').on('data', keep);
  child.stderr?.setEncoding('utf8').on('data', keep);
  try {
    const [code, killedBy] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
    if (signal.aborted) throw abortReason(program, signal);
    return { code, killedBy, output };
  } finally {
    listener[Symbol.dispose]();
  }
}

/** The error after an abort while a program of etcd's was running. */
export function abortReason(program: string, { reason }: AbortSignal): unknown {
  if (!(reason instanceof RunTimeout)) return reason;
  return new EtcdError(
    `${reason.message} while ${basename(program)} was running.`,
    'Raise SNAPSHOT_TIMEOUT for a large database or a slow disk.',
    reason,
  );
}

/** Bytes of the first file of the WAL, which etcd preallocates. */
export const WAL_SIZE = 64_000_000;

/** More revisions than any cluster writes between a backup and its restore: none is ever used twice. */
export const BUMP = 1_000_000_000;

/** etcd's own program that creates a data directory from a snapshot. */
export interface RestoreTool {
  readonly path: string;
  /** Such as `etcdutl 3.6.16`. */
  readonly name: string;
  /** Such as `3.6.16`. */
  readonly version: string;
  /** Whether it can raise the revision: 3.5.10 and later. */
  readonly canBump: boolean;
}

/** Milliseconds between two measurements of the progress of the tool. */
const POLL_MS = 200;

interface RestoreRun {
  /** The snapshot. */
  readonly file: string;
  /** Bytes of the snapshot. */
  readonly size: number;
  /** It has no sha256, or one that is to be ignored. */
  readonly skipHashCheck: boolean;
  readonly member: MemberParameters;
  /** Must not exist. */
  readonly dataDir: string;
  /** Must not exist; undefined = inside the data directory. */
  readonly walDir: string | undefined;
  /** Added to the revision. */
  readonly bump: number;
}

/** The first program on the search path that can restore: an `etcdutl`, else the `etcdctl` of 3.4 or 3.5. @throws UsageError */
export async function findTool(searchPath: readonly string[], signal: AbortSignal): Promise<RestoreTool> {
  for (const program of ['etcdutl', 'etcdctl']) {
    for (const dir of searchPath) {
      const tool = await examine(program, join(dir, program), signal);
      if (tool !== undefined) return tool;
    }
  }
  throw new UsageError(
    'No restore tool on the PATH: neither etcdutl, nor etcdctl 3.4 or 3.5.',
    "Run the image, which contains it, or put etcdutl of the members' version on the PATH.",
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

interface EtcdVersions {
  /** Of the data format, such as `3.6.0`; its minor version decides which etcd can read it. */
  readonly data: string | undefined;
  /** Of the members, for messages, such as `3.6.16`; `3.6` where only a file is known. */
  readonly members: string | undefined;
}

export function versionsOf(known: SnapshotRecord | SnapshotFacts): EtcdVersions {
  const isRecord = 'clusterId' in known;
  const data = known.storageVersion ?? (isRecord ? known.etcdVersion : known.clusterVersion);
  return { data, members: (isRecord ? known.etcdVersion : undefined) ?? data?.split('.').slice(0, 2).join('.') };
}

/**
 * @returns a warning when the tool's minor version is later than the snapshot's: then the members' must be, too
 * @throws UnsafeError when it is earlier, because etcd does not read the data of a later minor version
 */
export function checkVersion(tool: RestoreTool, { data, members }: EtcdVersions): string | undefined {
  if (data === undefined) return undefined;
  const [ofTool, ofSnapshot] = [minorOf(tool.version), minorOf(data)];
  if (ofTool === ofSnapshot) return undefined;
  if (ofTool > ofSnapshot) {
    return `${tool.name} restores a snapshot of etcd ${members}: start the members with etcd ${tool.version}, not with an earlier minor version.`;
  }
  throw new UnsafeError(
    `${tool.name} is too old for a snapshot of etcd ${members}: etcd does not read the data of a later version.`,
    "Use the tools of the members' version: an image built with ETCD_VERSION, or another PATH.",
  );
}

/** A number that increases with the minor version. */
function minorOf(version: string): number {
  const [major = '', minor = ''] = version.split('.');
  return Number(major) * 1000 + Number(minor);
}

/** Creates the data directory. @throws EtcdError with the last line of the tool's output; the abort's reason */
export async function runRestore(
  tool: RestoreTool,
  run: RestoreRun,
  { startProgress, signal }: { readonly startProgress: StartProgress; readonly signal: AbortSignal },
): Promise<void> {
  const { file, size, skipHashCheck, member, dataDir, walDir, bump } = run;
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
  const progress = startProgress(`restoring with ${tool.name}`, size);
  let written = 0;
  const timer = setInterval(() => {
    const { size: now = 0 } = statSync(join(dataDir, 'member/snap/db'), { throwIfNoEntry: false }) ?? {};
    progress.advance(Math.max(0, now - written));
    written = Math.max(now, written);
  }, POLL_MS);
  const { code, killedBy, output } = await runProgram(tool.path, args, signal).finally(() => {
    clearInterval(timer);
    progress.end();
  });
  if (code === 0) return;
  const last = output.trim().split('\n').at(-1) ?? '';
  const why = killedBy === null ? last || `exit code ${code}` : `killed by ${killedBy}`;
  throw new EtcdError(
    `${tool.name} could not restore the snapshot: ${why}.`,
    'Nothing was changed. Check the free disk space and the memory for the database.',
  );
}
