import { readBackStored } from '../backup/read-back.ts';
import type { ArchiveEntry } from '../bundle/archive.ts';
import type { SealingConfig } from '../config/config.ts';
import { UsageError, VerificationError } from '../errors.ts';
import { Warnings } from '../log.ts';
import { isSameSnapshot, isTrustedLike } from '../retention/superseded.ts';
import type { Sealing } from '../sealed/sealing.ts';
import { isRecorded, type Recorded } from '../snapshot/inventory.ts';
import { type SnapshotRecord, toolName } from '../snapshot/record.ts';
import { type Encoding, formOf, isCompressed, MAX_FORM, snapshotName } from '../snapshot/snapshot-name.ts';
import { signatureText } from '../snapshot/signature-state.ts';
import { factsOf, isFileName, type SnapshotSource } from '../snapshot/source.ts';
import { assertReadable } from '../snapshot/stored-form.ts';
import type { Verdict, VerifiedSnapshot } from '../snapshot/verify/verdict.ts';
import { SnapshotVerifier } from '../snapshot/verify/verifier.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import type { BlobStore } from '../store/store.ts';
import { paragraph, printable } from '../text.ts';
import { type Arguments, type Context, openStore, type Outcome } from './command.ts';
import { loadIdentities, openSource } from './snapshot-operand.ts';

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
  const rewrapped: Rewrapped[] = [];
  for (const operand of operands) rewrapped.push(await rewrapOne(context, store, operand, options, sealing, warnings));
  const recipients = sealing.recipients.join(', ');
  const lines = rewrapped.map(({ from, name, alreadyDone }) =>
    alreadyDone ? `${from} is already stored for ${recipients}: ${name}` : `${from} is now also stored as ${name}.`,
  );
  const summary = `Encrypted for ${recipients}: ${rewrapped.map(({ name }) => name).join(', ')}.`;
  return {
    text: [
      ...lines,
      paragraph('Retention removes the old blobs if rules are set; otherwise delete them by hand.'),
    ].join('\n'),
    summary,
    json: { recipients: sealing.recipients, rewrapped, findings: warnings.sentences },
  };
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

/** @throws VerificationError for what is not a valid snapshot; UsageError; StorageError */
async function rewrapOne(
  context: Context,
  store: BlobStore,
  operand: string,
  options: Arguments['options'],
  sealing: Sealing,
  warnings: Warnings,
): Promise<Rewrapped> {
  const { log } = context;
  if (isFileName(operand)) {
    throw new UsageError(`${printable(operand)} is a file.`, 'Give a snapshot that `etcd-snapshot list` shows.');
  }
  const source = await openSource(context, operand, options, store);
  const catalogue = await store.list();
  const snapshot = assertCounts(source, catalogue);
  assertSignable(context, snapshot);
  warnAboutSigning(context, snapshot, warnings);
  const forms = catalogue.filter(isRecorded).filter((blob) => isSameSnapshot(blob, snapshot));
  const done = forms
    .filter((form) => isTrustedLike(form, snapshot))
    .find(({ record }) => hasSame(record.recipients ?? [], sealing.recipients));
  if (done !== undefined) return { from: source.name, name: done.name, alreadyDone: true };
  assertReadable(source.name, source.stored);
  const { takenAt, encoding: old } = snapshot.record;
  const isZstd = [old, context.config.sealing?.encoding].some((each) => each !== undefined && isCompressed(each));
  const encoding: Encoding = isZstd ? 'zstd+age' : 'age';
  const name = snapshotName(store.prefix, takenAt, encoding, nextForm(store.prefix, takenAt, forms, catalogue));
  const { openBundle } = await import('../bundle/read-bundle.ts');
  const bundle =
    snapshot.record.bundleSha256 === undefined
      ? undefined
      : await openBundle(store, source, await loadIdentities(context, options));
  const content = { ...source, record: snapshot.record, bundle: bundle?.entries };
  await storeAs(name, store, content, sealing.withEncoding(encoding), context);
  log.info('stored snapshot for other recipients', { from: source.name, name, recipients: sealing.recipients });
  return { from: source.name, name, alreadyDone: false };
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

/** @throws VerificationError for a blob that the catalogue does not count as a snapshot */
function assertCounts({ name }: SnapshotSource, catalogue: readonly StoredBlob[]): Recorded<StoredBlob> {
  const listed = catalogue.find((blob) => blob.name === name);
  if (listed !== undefined && isRecorded(listed)) return listed;
  throw new VerificationError(
    `${printable(name)} does not count as a snapshot: ${listed?.problem ?? 'it has no record'}.`,
    'Use another snapshot. To see them, run: etcd-snapshot list',
  );
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

interface Content extends SnapshotSource {
  readonly record: SnapshotRecord;
  /** The files of its bundle; undefined where it has none. */
  readonly bundle: readonly ArchiveEntry[] | undefined;
}

/** The path of a backup, from a blob instead of etcd: verifier, sealer, upload, bundle, commit, read-back. */
async function storeAs(
  name: string,
  store: BlobStore,
  source: Content,
  sealing: Sealing,
  { config, memoryBudget, startProgress, version }: Context,
): Promise<void> {
  const upload = store.startUpload(name, { isReadBack: true, contentMd5: config.contentMd5 });
  const verifier = new SnapshotVerifier({ memoryBudget });
  const sealer = await sealing.start(upload);
  const progress = startProgress(`storing ${name}`, source.size);
  try {
    for await (const piece of source.read()) {
      verifier.push(piece);
      await sealer.write(piece);
      progress.advance(piece.length);
    }
    const seal = await sealer.finish();
    const snapshot = validSnapshot(source, verifier.finish());
    const { uploadBundle } = await import('../bundle/upload-bundle.ts');
    const bundle = source.bundle && (await uploadBundle(store, { name, upload }, source.bundle, sealing, 'full'));
    const ofBundle = { bundleSha256: bundle?.sha256, bundleKeys: bundle?.keys };
    const ofUpload = { uploadId: upload.uploadId, tool: toolName(version) };
    const record = { ...source.record, ...countedIn(snapshot, source.record), ...seal, ...ofBundle, ...ofUpload };
    const { etag } = await upload.commit(snapshot, record);
    const stored = { name, etag, upload, snapshot, seal, sealing };
    const { refusal } = await readBackStored(store, stored, 'full', startProgress);
    if (refusal !== undefined) throw refusal;
  } catch (error) {
    upload.abort();
    throw error;
  } finally {
    progress.end();
    sealer.close();
  }
}

/** What the verifier found, because a record without a signature can say anything of it. */
function countedIn({ facts }: VerifiedSnapshot, { liveKeys }: SnapshotRecord): Partial<SnapshotRecord> {
  const { hash, revision, totalKeys, totalSize } = facts;
  // Undefined when there was no memory to count them.
  return { hash, revision, totalKeys, totalSize, liveKeys: facts.liveKeys ?? liveKeys };
}

/** @throws VerificationError when it is corrupt, or does not match its record */
function validSnapshot(source: SnapshotSource, verdict: Verdict): VerifiedSnapshot {
  factsOf(source, verdict, `Run \`etcd-snapshot verify ${source.name}\` to see all problems.`);
  if (verdict.ok) return verdict.snapshot;
  throw new Error('a verdict that is not ok has no facts');
}
