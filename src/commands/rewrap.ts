import { storeSource } from '../backup/store-source.ts';
import type { OpenedBundle } from '../bundle/read-bundle.ts';
import type { SealingConfig } from '../config/config.ts';
import { Interrupted, StorageError, UsageError, VerificationError, WorkerError } from '../errors.ts';
import { Warnings } from '../log.ts';
import { isSameSnapshot, lastFormOf } from '../retention/superseded.ts';
import type { Sealing } from '../sealed/sealing.ts';
import { isRecorded, type Recorded } from '../snapshot/inventory.ts';
import { type Encoding, formOf, isCompressed, MAX_FORM, snapshotName } from '../snapshot/snapshot-name.ts';
import { signatureText } from '../snapshot/signature-state.ts';
import { assertStored } from '../snapshot/operand-name.ts';
import { openBlob, type SnapshotSource, verifyStored } from '../snapshot/source.ts';
import { assertReadable } from '../snapshot/stored-form.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import type { BlobStore } from '../store/store.ts';
import { afterColon, counted, paragraph, printable } from '../text.ts';
import { type Arguments, type Context, openStore, type Outcome } from './command.ts';
import { assertCounts, loadIdentities, openSource } from './snapshot-operand.ts';

interface Rewrapped {
  /** The blob that was named. */
  readonly from: string;
  /** The one for the new recipients. */
  readonly name: string;
  readonly alreadyDone: boolean;
}

/** Stores snapshots again, encrypted for other recipients. Blobs that are there are never changed or removed. */
export async function rewrap(context: Context, { operands, options }: Arguments): Promise<Outcome> {
  const warnings = new Warnings(context.log);
  const { Sealing } = await import('../sealed/sealing.ts');
  const sealing = await Sealing.prepare(sealingConfig(context, options), warnings);
  const store = await openStore(context);
  const catalogue = await store.list();
  // A mistake in one name must not be found after hours of work for the others.
  const sources: SnapshotSource[] = [];
  for (const operand of operands) {
    assertStored(operand);
    const source = await openSource(context, operand, options, store);
    examine(context, source, catalogue, sealing);
    sources.push(source);
  }
  const rewrapped: Rewrapped[] = [];
  const failed: WorkerError[] = [];
  for (const source of sources) {
    try {
      rewrapped.push(await rewrapOne(context, store, source, options, sealing, warnings));
    } catch (error) {
      if (sources.length === 1 || !(error instanceof WorkerError)) throw error;
      if (error instanceof Interrupted) {
        const outcome = rewrapped.length === 0 ? 'nothing is stored' : `stored: ${namesOf(rewrapped)}`;
        throw error.withOutcome(outcome, 'Run the command again: it continues with the others.');
      }
      failed.push(error);
      // What is wrong with one snapshot says nothing of the others.
      if (!(error instanceof VerificationError)) break;
    }
  }
  const [failure] = failed;
  if (failure !== undefined && rewrapped.length === 0) throw failure;
  const left = sources.length - rewrapped.length;
  if (left > 0)
    warnings.add(`${left} of ${counted(sources.length, 'snapshot')} ${left === 1 ? 'was' : 'were'} not rewrapped.`);
  const recipients = sealing.recipients.join(', ');
  const lines = rewrapped.map(({ from, name, alreadyDone }) =>
    alreadyDone ? `${from} is already stored for ${recipients}: ${name}` : `${from} is now also stored as ${name}.`,
  );
  const summary = `Encrypted for ${recipients}: ${namesOf(rewrapped)}.`;
  return {
    text: [
      ...lines,
      paragraph('Retention removes the old blobs if rules are set; otherwise delete them by hand.'),
    ].join('\n'),
    summary,
    json: { recipients: sealing.recipients, rewrapped, findings: warnings.sentences },
    ...(failure && { partialFailure: failure }),
  };
}

function namesOf(rewrapped: readonly Rewrapped[]): string {
  return rewrapped.map(({ name }) => name).join(', ');
}

/** @throws UsageError without recipients */
function sealingConfig({ config }: Context, { recipients: given }: Arguments['options']): SealingConfig {
  if (typeof given === 'string') {
    return { encoding: 'age', recipients: given, recipientsFrom: '--recipients', recipientsFile: undefined };
  }
  const { recipients, recipientsFile } = config.sealing ?? {};
  if ((recipients ?? recipientsFile) !== undefined) return { encoding: 'age', recipients, recipientsFile };
  throw new UsageError(
    'No recipients were given.',
    'Give them with --recipients, or in SNAPSHOT_ENCRYPTION_RECIPIENTS.',
  );
}

interface Examined {
  readonly snapshot: Recorded<StoredBlob>;
  readonly forms: readonly Recorded<StoredBlob>[];
  /** The last form, if it is for the same recipients: retention removes all the others. */
  readonly done: Recorded<StoredBlob> | undefined;
}

/** @throws VerificationError for what is not a valid snapshot; UsageError when it cannot be read or signed */
function examine(
  context: Context,
  source: SnapshotSource,
  catalogue: readonly StoredBlob[],
  sealing: Sealing,
): Examined {
  const snapshot = assertCounts(
    source.name,
    catalogue.find(({ name }) => name === source.name),
  );
  assertSignable(context, snapshot);
  const forms = catalogue.filter(isRecorded).filter((blob) => isSameSnapshot(blob, snapshot));
  const last = lastFormOf(snapshot, forms);
  const done = last !== undefined && hasSame(last.record.recipients ?? [], sealing.recipients) ? last : undefined;
  if (done === undefined) assertReadable(source.name, source.stored);
  return { snapshot, forms, done };
}

/** @throws VerificationError for what is not a valid snapshot; UsageError; StorageError */
async function rewrapOne(
  context: Context,
  store: BlobStore,
  source: SnapshotSource,
  options: Arguments['options'],
  sealing: Sealing,
  warnings: Warnings,
): Promise<Rewrapped> {
  const { log } = context;
  const catalogue = await store.list();
  const { snapshot, forms, done } = examine(context, source, catalogue, sealing);
  if (done !== undefined && (await isIntact(context, store, done, warnings))) {
    if (done.notReadBackBy !== undefined) await note(store, done.name, done.record.storedSha256 ?? '', warnings);
    return { from: source.name, name: done.name, alreadyDone: true };
  }
  assertReadable(source.name, source.stored);
  warnAboutSigning(context, snapshot, warnings);
  const { takenAt, encoding: old } = snapshot.record;
  const isZstd = [old, context.config.sealing?.encoding].some((each) => each !== undefined && isCompressed(each));
  const encoding: Encoding = isZstd ? 'zstd+age' : 'age';
  const name = snapshotName(store.prefix, takenAt, encoding, nextForm(store.prefix, takenAt, forms, catalogue));
  const bundle = snapshot.bundle && (await openIts(context, store, source, options));
  if (bundle === undefined && snapshot.record.bundleSha256 !== undefined) {
    warnings.add(
      `The bundle of ${printable(source.name)} is missing, or was replaced: its new form has none.`,
      'Find out who deleted or changed it.',
    );
  }
  const content = { source, description: snapshot.record, bundle: bundle?.entries };
  const config = { ...context.config, readBack: 'full' } as const;
  const storing = storeSource(name, store, content, { ...context, config, sealing: sealing.withEncoding(encoding) });
  await note(store, name, await storing, warnings);
  log.info('stored snapshot for other recipients', { from: source.name, name, recipients: sealing.recipients });
  return { from: source.name, name, alreadyDone: false };
}

/** The bundle of a snapshot; undefined where it is not the one that was stored with it. @throws UsageError; StorageError */
async function openIts(
  context: Context,
  store: BlobStore,
  source: SnapshotSource,
  options: Arguments['options'],
): Promise<OpenedBundle | undefined> {
  const { openBundle } = await import('../bundle/read-bundle.ts');
  try {
    return await openBundle(store, source, await loadIdentities(context, options));
  } catch (error) {
    if (error instanceof VerificationError) return undefined;
    throw error;
  }
}

/** Whether an earlier form is stored as its record says: the run that stored it can have been killed. @throws StorageError */
async function isIntact(
  context: Context,
  store: BlobStore,
  { name }: StoredBlob,
  warnings: Warnings,
): Promise<boolean> {
  const source = await openBlob(store, name);
  const { assertBundleStored } = await import('../bundle/read-bundle.ts');
  try {
    if (source.stored !== undefined) await verifyStored(source, source.stored, context);
    await assertBundleStored(store, source);
    return true;
  } catch (error) {
    if (!(error instanceof VerificationError)) throw error;
    warnings.add(
      `${printable(name)} is damaged, and the snapshot is stored again: ${afterColon(error.message)}`,
      'Delete it by hand.',
    );
    return false;
  }
}

/** Without the note, retention keeps the other forms as well. */
async function note(store: BlobStore, name: string, storedSha256: string, warnings: Warnings): Promise<void> {
  try {
    await store.noteForm(name, storedSha256);
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    warnings.add(
      `${printable(name)} was read back, but this could not be noted, so it replaces no other form: ${afterColon(error.message)}`,
      'Run the command again.',
    );
  }
}

/** Greater than those of all its forms and not that of any blob. @throws UsageError */
function nextForm(
  prefix: string,
  takenAt: Date,
  forms: readonly StoredBlob[],
  catalogue: readonly StoredBlob[],
): number {
  const stem = snapshotName(prefix, takenAt).replace(/\.db$/, '');
  const isTaken = (form: number): boolean => catalogue.some(({ name }) => name.startsWith(`${stem}-r${form}.`));
  let form = 1 + Math.max(...forms.map(({ name }) => formOf(name)));
  while (isTaken(form)) form += 1;
  if (form <= MAX_FORM) return form;
  throw new UsageError(`There is no free name for another form of ${stem}.`, 'Delete old forms of this snapshot.');
}

/** @throws UsageError when a signature would be lost */
function assertSignable({ signatures }: Context, { name, signature }: StoredBlob): void {
  if (signature === undefined || signature.state === 'unsigned' || signatures?.signingKeyId !== undefined) return;
  throw new UsageError(
    `${printable(name)} is signed, and there is no key to sign its new form.`,
    'Set SNAPSHOT_SIGNING_KEY_FILE.',
  );
}

/** Without verification keys anything can be stored again, and is signed then. */
function warnAboutSigning({ signatures }: Context, { name, signature }: StoredBlob, warnings: Warnings): void {
  if (signatures?.signingKeyId === undefined || signature === undefined || signature.state === 'valid') return;
  warnings.add(
    `${printable(name)} is ${signatureText(signature)}, and its new form is signed by ${signatures.signingKeyId}.`,
    'Make sure that it comes from your cluster. With SNAPSHOT_VERIFICATION_KEYS_FILE only signed snapshots are used.',
  );
}

function hasSame(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((each) => other.includes(each));
}
