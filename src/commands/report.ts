import { setFlagsFromString } from 'node:v8';
import type { StorageConfig } from '../config/config.ts';
import { TYPES } from '../config/value-types.ts';
import { ExitCode, StorageError, UnsafeError, UsageError, WorkerError } from '../errors.ts';
import { readNamed } from '../files.ts';
import { exposition } from '../monitoring/metrics.ts';
import { type ClusterPlace, configuredPlace, parseContainerList, placeName } from '../report/container-list.ts';
import { type Cluster, clusterOf, type Expectations, unreachable, worstFirst } from '../report/facts.ts';
import { DAY_MS } from '../report/history.ts';
import { htmlPage } from '../report/html-page.ts';
import { reportJson, reportJsonText } from '../report/report-json.ts';
import { reportMetrics } from '../report/report-metrics.ts';
import { reportTable } from '../report/report-table.ts';
import { type Report, summaryOf } from '../report/summary.ts';
import { copiesText } from '../report/words.ts';
import { writeNewFile } from '../report/write-page.ts';
import type { ContainerReader, Contents } from '../store/container-reader.ts';
import { afterColon, counted, printable } from '../text.ts';
import { type Arguments, type Context, openCopy, type Outcome } from './command.ts';

/** Containers that are read at the same time. */
const PARALLEL = 16;

/** Milliseconds: a drill every week can fail once. */
const DRILL_WITHIN = 14 * DAY_MS;

/**
 * Of V8: how much the heap grows, in percent of what is in use, before garbage is collected. By default it grows to four times of
 * that, and the answers to ten thousand listings are garbage at once.
 */
const FRUGAL = '--heap-growing-percent=50';

const UNITS = { s: 1000, m: 60_000, h: 3_600_000, d: DAY_MS } as const;

/** Reports on the backups of one cluster or many, from the store alone. One that cannot be read does not stop the others. */
export async function report(context: Context, { options }: Arguments): Promise<Outcome> {
  const { config, log, signal, signatures, version } = context;
  const { storage } = config;
  if (storage === undefined) throw new Error('the command did not say that it needs storage');
  assertCompatible(options);
  const expectations = {
    objective: readDuration('rpo', options),
    drillWithin: readDuration('drill-within', options) ?? DRILL_WITHIN,
    retention: config.retention,
    copiesOf: await copiesIn(context),
    hasStrip: typeof options['html'] === 'string' || typeof options['upload-to'] === 'string',
  };
  setFlagsFromString(FRUGAL);
  const { ContainerReader } = await import('../store/container-reader.ts');
  const reader = await ContainerReader.open(storage, signal, log, signatures);
  const places = await placesOf(storage, reader, options);
  const now = new Date();
  const { clusters, others } = await readAll(places, reader, expectations, now, context);
  if (clusters.length === 0) {
    throw new UnsafeError(
      'No container of the account holds a snapshot.',
      'Check the account and the permissions of the identity.',
    );
  }
  const result: Report = {
    ...{ clusters: worstFirst(clusters), generatedAt: now.getTime(), version },
    ...{ objective: expectations.objective, drillWithin: expectations.drillWithin },
    otherContainers: options['account'] === true ? others.toSorted() : undefined,
  };
  const partialFailure = (await storeCopies(result, storage, context, options)) ?? partialFailureOf(result);
  return {
    // Of ten thousand clusters each output takes tens of megabytes: only the one that is printed is made.
    ...(options['json'] === true
      ? { text: '', json: reportJson(result) }
      : { text: textOf(result, options), json: null }),
    summary: summaryOf(result),
    ...(partialFailure && { partialFailure }),
  };
}

/** Writes the page and stores the report, where that is asked for. What fails does not keep the report from being printed. */
async function storeCopies(
  result: Report,
  storage: StorageConfig,
  context: Context,
  { html, 'upload-to': container }: Arguments['options'],
): Promise<WorkerError | undefined> {
  try {
    if (typeof html === 'string') await writeNewFile(html, htmlPage(result));
    if (typeof container !== 'string') return undefined;
    const { uploadReport } = await import('../store/upload-report.ts');
    const files = { html: htmlPage(result), json: reportJsonText(result) };
    await uploadReport(storage, container, new Date(result.generatedAt), files, context);
    return undefined;
  } catch (error) {
    if (context.signal.aborted || !(error instanceof WorkerError)) throw error;
    if (error instanceof StorageError && error.code === 'ContainerNotFound')
      error.hint = `Create the container ${String(container)}: the report does not do it.`;
    return error;
  }
}

function textOf(result: Report, { metrics }: Arguments['options']): string {
  return metrics === true ? exposition(reportMetrics(result)).trimEnd() : reportTable(result);
}

/** @throws UsageError */
function assertCompatible(options: Arguments['options']): void {
  const { 'upload-to': container } = options;
  if (typeof container === 'string' && !TYPES.container.pattern.test(container)) {
    throw new UsageError(`--upload-to ${printable(container)} is not a container.`, `A name ${TYPES.container.rule}.`);
  }
  const pairs = [
    ['account', 'containers'],
    ['metrics', 'json'],
  ] as const;
  for (const [one, other] of pairs) {
    if (options[one] === undefined || options[other] === undefined) continue;
    throw new UsageError(`--${one} cannot be combined with --${other}.`, 'Omit one of them.');
  }
}

/** Milliseconds; undefined where the option is not given. @throws UsageError */
function readDuration(option: string, { [option]: value }: Arguments['options']): number | undefined {
  if (typeof value !== 'string') return undefined;
  const [, amount, unit] = /^([1-9]\d{0,5})([smhd])$/.exec(value) ?? [];
  const ms = Number(amount) * UNITS[(unit ?? 's') as keyof typeof UNITS];
  if (ms >= UNITS.m) return ms;
  const sentence = `--${option} ${printable(value)} is not a duration.`;
  throw new UsageError(sentence, 'Give at least one minute, with a unit: 30m, 6h, 14d.');
}

/** @throws UsageError, StorageError */
async function placesOf(
  storage: StorageConfig,
  reader: ContainerReader,
  { containers: file, account }: Arguments['options'],
): Promise<ClusterPlace[]> {
  if (typeof file === 'string') {
    const text = await readNamed(file, 'list of containers', 'Check the path given with --containers.');
    return parseContainerList(text.toString(), printable(file), storage);
  }
  if (account !== true) return [configuredPlace(storage, storage.container, storage.prefix)];
  return (await reader.containerNames()).map((name) => configuredPlace(storage, name, undefined));
}

/** Undefined where no second place is configured, or it is not that of what is read. @throws UsageError, the abort's reason */
async function copiesIn(context: Context): Promise<Expectations['copiesOf']> {
  const { config, log, signal } = context;
  if (config.copy === undefined) return undefined;
  const { listSecond } = await import('../copy/copy-missing.ts');
  const { comparedWith } = await import('../copy/plan-copies.ts');
  const second = await openCopy(context);
  try {
    return comparedWith({ prefix: second.prefix, blobs: (await listSecond(second))?.blobs ?? [] });
  } catch (error) {
    if (signal.aborted || !(error instanceof StorageError)) throw error;
    log.warn(`Cannot read the second place: ${afterColon(error.message)}`, { hint: error.hint });
    const unknown = { missing: undefined, problem: error.message };
    return () => unknown;
  }
}

interface Found {
  readonly clusters: Cluster[];
  /** Names of containers that hold no snapshot, or cannot be listed by this identity, where a whole account is read. */
  readonly others: string[];
}

/** Keeps the facts of each container only: its blobs would not fit into memory. @throws the abort's reason */
async function readAll(
  places: readonly ClusterPlace[],
  reader: ContainerReader,
  expectations: Expectations,
  now: Date,
  { startProgress, signal, log }: Context,
): Promise<Found> {
  const found: Found = { clusters: [], others: [] };
  const progress = startProgress('reading containers', places.length, (amount) => String(Math.round(amount)));
  const readOne = async (place: ClusterPlace): Promise<void> => {
    const isOfAccount = place.prefix === undefined;
    try {
      const contents = await reader.read(place, now);
      if (isOfAccount && !contents.some(isUsed)) {
        found.others.push(place.container);
        return;
      }
      const immutability = await reader.immutability(place);
      for (const part of contents) {
        const name = isOfAccount ? printable(placeName(place.container, part.prefix)) : place.name;
        found.clusters.push(clusterOf({ ...place, name }, part, immutability, expectations, now));
      }
    } catch (error) {
      if (signal.aborted || !(error instanceof StorageError)) throw error;
      if (isOfAccount && error.isForbidden) {
        found.others.push(place.container);
        return;
      }
      log.warn(`Cannot read ${place.name}: ${afterColon(error.message)}`, { hint: error.hint });
      found.clusters.push(unreachable(place, error.message));
    } finally {
      progress.advance(1);
    }
  };
  const next = places.values();
  const worker = async (): Promise<void> => {
    for (const place of next) await readOne(place);
  };
  try {
    await Promise.all(Array.from({ length: PARALLEL }, worker));
  } finally {
    progress.end();
  }
  return found;
}

/** Whether there is or was a snapshot of this program, or what somebody takes for one. */
function isUsed({ blobs, drills }: Contents): boolean {
  return drills.length > 0 || blobs.some(({ problem, takenAt }) => (problem ?? takenAt) !== undefined);
}

function partialFailureOf({ clusters }: Report): WorkerError | undefined {
  const unread = clusters.filter(({ facts }) => facts === undefined);
  const late = clusters.filter(({ state }) => state !== 'ok');
  const [first] = late;
  const withoutCopy = clusters.find(({ facts }) => facts?.copies !== undefined && facts.copies.missing === undefined);
  if (unread.length === 0 && withoutCopy?.facts?.copies !== undefined) {
    const sentence = `The second place of ${withoutCopy.place.name} ${copiesText(withoutCopy.facts.copies)}.`;
    return new WorkerError(ExitCode.storage, sentence, 'The log has a hint.');
  }
  if (first === undefined) return undefined;
  const which = `${first.place.name}: ${afterColon(first.problems[0]?.message ?? '')}`;
  if (unread.length > 0) {
    const sentence = `${counted(unread.length, 'container')} of ${clusters.length} cannot be read, the first: ${which}`;
    return new WorkerError(ExitCode.storage, sentence, 'The log has a hint for each of them.');
  }
  const sentence = `${late.length} of ${counted(clusters.length, 'cluster')} ${late.length === 1 ? 'needs' : 'need'} attention, the first: ${which}`;
  return new UnsafeError(sentence, 'Check its CronJobs for backups and drills, their last Jobs and their logs.');
}
