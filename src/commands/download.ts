import { link, mkdir } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { Stopwatch } from '../backup/stopwatch.ts';
import { UsageError } from '../errors.ts';
import { demandRoom, onDisk, removeAll, statOf, sync } from '../restore/disk.ts';
import { bytesAt, fetchVerified, isResumable } from '../restore/fetch.ts';
import { demandPlanned, readPlan } from '../restore/plan.ts';
import { demandParent, workPlaceOf } from '../restore/target.ts';
import type { Arguments, Context, Outcome } from './command.ts';
import { openNamedOrNewest } from './operand.ts';
import { statusTable } from './status.ts';

/** What can be said of a download; all else is about a member. */
const OPTIONS = new Set(['json', 'env-file', 'download', 'from-plan']);

/**
 * `restore --download`: the snapshot itself as a file, for what restores on its own: k3s, RKE2, etcd's tool of another
 * version. It is verified completely while it comes, and appears in one step; nothing is overwritten.
 */
export async function download(context: Context, { operands: [operand], options }: Arguments): Promise<Outcome> {
  const { log } = context;
  const watch = new Stopwatch();
  const superfluous = Object.keys(options).filter((name) => !OPTIONS.has(name));
  if (superfluous.length > 0) {
    throw new UsageError(
      `A download makes no data directory, so --${superfluous.join(', --')} cannot be given.`,
      'Leave that out; to restore a member leave out --download.',
    );
  }
  const file = resolve(String(options['download']));
  const plan = typeof options['from-plan'] === 'string' ? await readPlan(options['from-plan']) : undefined;
  await demandNew(file);
  const source = await openNamedOrNewest(context, operand ?? plan?.snapshot.name);
  if (source.etag === undefined) {
    throw new UsageError(
      `${source.name} is a file of this machine already.`,
      'Name one that `etcd-snapshot list` shows.',
    );
  }
  if (plan !== undefined && source.record !== undefined) demandPlanned(plan, source.name, source.record.sha256);

  const work = workPlaceOf(file);
  await onDisk(`Creating ${work}`, mkdir(work, { recursive: true, mode: 0o700 }));
  try {
    await demandRoom(work, source.size - (await bytesAt(source, work)));
    const { file: part, facts } = await watch.time('fetch', fetchVerified(source, work, context));
    if (plan !== undefined) demandPlanned(plan, source.name, facts.sha256);
    await onDisk(`Creating ${file}`, link(part, file));
    await removeAll(work);
    await onDisk(`Writing ${dirname(file)}`, sync(dirname(file)));

    log.info('the snapshot is downloaded', { name: source.name, file });
    const { size, sha256, hash, revision, totalKeys } = facts;
    const summary = `${source.name} is a sound snapshot, and stands in ${file}.`;
    return {
      text: `${statusTable(facts)}\n${summary} It holds all Secrets: remove it when it is no longer needed.`,
      summary,
      json: { name: source.name, file, size, sha256, hash, revision, totalKeys, durationsMs: watch.durations() },
    };
  } catch (error) {
    if (!isResumable(error)) await removeAll(work);
    throw error;
  }
}

/** @throws UsageError unless a file can appear at the path */
async function demandNew(path: string): Promise<void> {
  await demandParent(path);
  const there = await onDisk(`Looking at ${path}`, statOf(path));
  if (there === undefined) return;
  throw new UsageError(
    there.isDirectory() ? `${path} is a directory.` : `${path} is there already.`,
    'Name a file that is not there yet; nothing is overwritten.',
  );
}
