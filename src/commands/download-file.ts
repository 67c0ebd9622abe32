import { createHash } from 'node:crypto';
import { link } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { UsageError } from '../errors.ts';
import { openRegular, whyUnreadable } from '../files.ts';
import { assertRoom, onDisk, statOf } from '../disk.ts';
import { bytesAt, fetchVerified, isResumable } from '../restore/fetch.ts';
import { readPlan } from '../restore/plan-file.ts';
import { assertPlanned } from '../restore/plan.ts';
import { assertParent, WorkPlace } from '../restore/target.ts';
import { Stopwatch } from '../progress.ts';
import { printable } from '../text.ts';
import type { Arguments, Context, Outcome } from './command.ts';
import { openNamedOrNewest } from './operand.ts';
import { statusTable } from './tables.ts';

/** What can be said of a download; all else is about a member. */
const OPTIONS = new Set(['json', 'env-file', 'download', 'from-plan', 'cluster-id']);

const NEW = 'Name a file that is not there yet; nothing is overwritten.';

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
  await assertParent(file);
  const there = await onDisk(`Looking at ${file}`, statOf(file));
  if (there?.isDirectory() === true) throw new UsageError(`${printable(file)} is a directory.`, NEW);
  // With a plan it is known without Azure what is wanted.
  if (there !== undefined && plan !== undefined && operand === undefined) return doneBefore(file, plan.snapshot);
  const source = await openNamedOrNewest(context, operand ?? plan?.snapshot.name, options);
  if (source.etag === undefined) {
    throw new UsageError(
      `${source.name} is a file of this machine already.`,
      'Name one that `etcd-snapshot list` shows.',
    );
  }
  if (plan !== undefined && source.record !== undefined) assertPlanned(plan, source.name, source.record.sha256);
  if (there !== undefined) return doneBefore(file, { name: source.name, sha256: source.record?.sha256 });

  const place = await WorkPlace.open(file);
  const { path: work } = await place.work();
  try {
    await assertRoom(work, source.size - (await bytesAt(source, work)));
    const { file: part, facts } = await watch.time('fetch', fetchVerified(source, work, context));
    if (plan !== undefined) assertPlanned(plan, source.name, facts.sha256);
    await onDisk(`Creating ${file}`, link(part, place.final));
    await onDisk(`Writing ${dirname(file)}`, place.removeWork());

    log.info('the snapshot is downloaded', { name: source.name, file });
    const { size, sha256, hash, revision, totalKeys } = facts;
    const summary = `${source.name} is a sound snapshot, and stands in ${file}.`;
    return {
      text: `${statusTable(facts)}\n${summary} It holds all Secrets: remove it when it is no longer needed.`,
      summary,
      json: {
        ...{ name: source.name, file, size, sha256, hash, revision, totalKeys, alreadyDone: false },
        durationsMs: watch.durations(),
      },
    };
  } catch (error) {
    if (!isResumable(error)) await place.removeWork();
    throw error;
  }
}

/**
 * What is there already is what was to be written: a download that an earlier run finished.
 * @throws UsageError when it is anything else
 */
async function doneBefore(
  file: string,
  { name, sha256 }: { readonly name: string; readonly sha256: string | undefined },
): Promise<Outcome> {
  if (sha256 === undefined || (await sha256Of(file)) !== sha256) {
    throw new UsageError(`${printable(file)} is there already, and is not ${printable(name)}.`, NEW);
  }
  const summary = `Already done: ${printable(name)} stands in ${printable(file)}.`;
  return {
    text: `${summary} It holds all Secrets: remove it when it is no longer needed.`,
    summary,
    json: { name, file, sha256, alreadyDone: true },
  };
}

async function sha256Of(path: string): Promise<string> {
  try {
    const { file } = await openRegular(path);
    const hash = createHash('sha256');
    for await (const piece of file.createReadStream({ highWaterMark: 1024 * 1024 })) hash.update(piece as Buffer);
    return hash.digest('hex');
  } catch (error) {
    throw new UsageError(`${printable(path)} is there already, and ${whyUnreadable(error)}.`, NEW, error);
  }
}
