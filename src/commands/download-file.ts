import { createHash } from 'node:crypto';
import { link } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { UsageError } from '../errors.ts';
import { assertSpace, kindOf, onDisk, piecesOf, statOf, whyUnreadable } from '../files.ts';
import { Stopwatch } from '../progress.ts';
import { bytesAt, fetchAsStored, fetchVerified, keepsDownload } from '../restore/fetch-and-verify.ts';
import { assertPlanned, readPlan } from '../restore/plan.ts';
import { WorkPlace } from '../restore/target-directory.ts';
import { encodingOfName, isCompressed, isEncrypted } from '../snapshot/snapshot-name.ts';
import { assertReadable, encodingText, storedJson, type StoredForm } from '../snapshot/stored-form.ts';
import type { SnapshotFacts } from '../snapshot/verify/verdict.ts';
import { printable, statusTable } from '../text.ts';
import type { Arguments, Context, Outcome } from './command.ts';
import { openNamedOrNewest } from './snapshot-operand.ts';

/** All other options belong to the restore of a member. */
const OPTIONS = new Set([
  ...['json', 'env-file', 'download', 'from-plan', 'rehydrate', 'open', 'identity'],
  ...['taken-before', 'cluster-id', 'from-copy'],
]);

const NEW = 'Use a file that does not exist yet; nothing is overwritten.';

const SECRETS = 'The file contains all Secrets of the cluster: remove it when it is no longer needed.';

/**
 * `restore --download`: writes the snapshot to a file, to be restored by another program: k3s, RKE2, etcd's tool of another
 * version. It is verified while it is downloaded, and appears in one step; nothing is overwritten.
 */
export async function download(context: Context, { operands: [operand], options }: Arguments): Promise<Outcome> {
  const { log, signal } = context;
  const watch = new Stopwatch();
  const superfluous = Object.keys(options).filter((name) => !OPTIONS.has(name));
  if (superfluous.length > 0) {
    throw new UsageError(
      `--download cannot be combined with --${superfluous.join(', --')}: it restores no member.`,
      'Omit these options; to restore a member omit --download.',
    );
  }
  if (options['download'] === '-')
    throw new UsageError('--download writes to a file, not to stdout.', 'Give a new file.');
  const file = resolve(String(options['download']));
  const isOpen = options['open'] === true;
  const plan = typeof options['from-plan'] === 'string' ? await readPlan(options['from-plan']) : undefined;
  const place = await WorkPlace.open(file);
  const there = await statOf(place.final, 'refuse');
  if (there?.isFile() === false) throw new UsageError(`${printable(file)} is ${kindOf(there)}.`, NEW);
  // A plan contains the checksum of the snapshot itself, so Azure is not needed.
  const isPlanned = isOpen || (plan !== undefined && encodingOfName(plan.snapshot.name) === undefined);
  if (there !== undefined && plan !== undefined && operand === undefined && isPlanned) {
    return doneBefore(file, { ...plan.snapshot, otherForm: undefined, remarks: [SECRETS] }, signal);
  }
  const source = await openNamedOrNewest(context, operand ?? plan?.snapshot.name, options);
  if (source.etag === undefined) {
    throw new UsageError(`${source.name} is a local file already.`, 'Give a snapshot that `etcd-snapshot list` shows.');
  }
  if (plan !== undefined && source.record !== undefined) assertPlanned(plan, source.name, source.record.sha256);
  const stored = isOpen ? undefined : source.stored;
  if (isOpen) assertReadable(source.name, source.stored);
  const { size: bytes, sha256: digest } = stored ?? { size: source.size, sha256: source.record?.sha256 };
  const remarks = [
    ...(stored === undefined ? [] : [howToOpen(stored)]),
    ...(stored !== undefined && isEncrypted(stored.encoding) ? [] : [SECRETS]),
  ];
  if (there !== undefined) {
    const otherForm = isOpen ? source.stored?.sha256 : source.record?.sha256;
    return doneBefore(file, { name: source.name, sha256: digest, otherForm, remarks }, signal);
  }

  const { path: work } = await place.work();
  try {
    await assertSpace(work, bytes - (await bytesAt(source, work)));
    const fetching =
      stored === undefined ? fetchVerified(source, work, context) : fetchAsStored(source, stored, work, context);
    const { file: part, facts } = await watch.time<{
      readonly file: string;
      readonly facts: SnapshotFacts | undefined;
    }>('fetch', fetching);
    if (plan !== undefined && facts !== undefined) assertPlanned(plan, source.name, facts.sha256);
    await onDisk(`Creating ${file}`, link(part, place.final));
    await onDisk(`Writing ${dirname(file)}`, place.removeWork());

    log.info('snapshot downloaded', { name: source.name, file });
    const checked = facts === undefined ? 'stored' : 'content';
    const state =
      facts === undefined ? 'Its stored bytes match the record; the content was not checked.' : 'It is valid.';
    const summary = `${source.name} was downloaded to ${file}. ${state}`;
    const { sha256, hash, revision, totalKeys } = facts ?? source.record ?? {};
    return {
      text: [...(facts === undefined ? [] : [statusTable(facts)]), ...remarks, summary].join('\n'),
      summary,
      json: {
        ...{
          name: source.name,
          file,
          size: source.size,
          sha256,
          hash,
          revision,
          totalKeys,
          checked,
          alreadyDone: false,
        },
        ...storedJson(stored),
        durationsMs: watch.durations(),
      },
    };
  } catch (error) {
    if (!(await keepsDownload(error, source, work, log))) await place.removeWork();
    throw error;
  }
}

function howToOpen({ encoding }: StoredForm): string {
  const commands = [
    ...(isEncrypted(encoding) ? ['age -d -i KEY'] : []),
    ...(isCompressed(encoding) ? ['zstd -d'] : []),
  ].join(' | ');
  return `The file is ${encodingText(encoding)}, as it is stored: open it with ${commands}, or download it with --open.`;
}

interface Wanted {
  readonly name: string;
  readonly sha256: string | undefined;
  /** The sha256 of the same snapshot with `--open` instead of without it, or the other way round. */
  readonly otherForm: string | undefined;
  /** What the operator should know about the file, in sentences. */
  readonly remarks: readonly string[];
}

/** The file exists already: an earlier run downloaded it. @throws UsageError when it is anything else */
async function doneBefore(
  file: string,
  { name, sha256, otherForm, remarks }: Wanted,
  signal: AbortSignal,
): Promise<Outcome> {
  const found = await sha256Of(file, signal);
  if (sha256 === undefined || found !== sha256) {
    const isOther = found === otherForm;
    const what = isOther ? `contains ${printable(name)} in another form` : `does not contain ${printable(name)}`;
    const hint = isOther ? `The other form differs by --open. ${NEW}` : NEW;
    throw new UsageError(`${printable(file)} already exists, and ${what}.`, hint);
  }
  const summary = `Already done: ${printable(name)} is in ${printable(file)}.`;
  return { text: [...remarks, summary].join('\n'), summary, json: { name, file, sha256, alreadyDone: true } };
}

async function sha256Of(path: string, signal: AbortSignal): Promise<string> {
  try {
    const hash = createHash('sha256');
    for await (const piece of piecesOf(path, signal)) hash.update(piece);
    return hash.digest('hex');
  } catch (error) {
    signal.throwIfAborted();
    throw new UsageError(`${printable(path)} already exists, and ${whyUnreadable(error)}.`, NEW, error);
  }
}
