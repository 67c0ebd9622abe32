import * as v from 'valibot';
import { printable } from '../text.ts';
import { isPeerUrl } from '../url.ts';
import { type Encoding, ENCODINGS, isEncrypted, parseSnapshotName } from './snapshot-name.ts';
import { TRAILER_SIZE } from './verify/page.ts';

const TOOL = 'etcd-snapshot/';

/** No etcd reaches it, even if each of a thousand restores raised its revision. */
const MAX_REVISION = 1e15;
/** Bytes: a bbolt file has at least four pages, and none of less than 1 KiB. */
const MIN_DATABASE = 4 * 1024;
/** Bytes: as large as Azure's largest blob. */
const MAX_DATABASE = 2 ** 48;
/** Azure's own bound is 8 KiB for all of a blob's metadata. */
const MAX_TEXT = 8 * 1024;

/** Characters of a member's name. */
const MAX_NAME = 255;

export const NO_CONTROLS = /^[^\p{C}\p{Zl}\p{Zp}]*$/u;

const Id = v.pipe(v.string(), v.regex(/^[0-9a-f]{1,16}$/, 'is not an id of etcd'));
const Version = v.pipe(v.string(), v.regex(/^\d{1,5}\.\d{1,5}\.\d{1,5}([-+][\w.+-]{1,64})?$/, 'is not a version'));

/** A moment as `toISOString` writes it. */
export const Time = v.pipe(
  v.string(),
  v.regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, "is not a time in this program's format"),
  v.check((text) => isCanonical(text), 'is not a valid time'),
  v.transform((text) => new Date(text)),
);

/** Text of any characters in metadata, which can only have ASCII. */
export const PercentEncoded = v.pipe(
  v.string(),
  v.maxLength(MAX_TEXT),
  v.transform(percentDecoded),
  v.string('is not percent-encoded'),
);

const RecordedMember = v.object({
  id: Id,
  name: v.pipe(v.string(), v.maxLength(MAX_NAME, 'is too long'), v.regex(NO_CONTROLS, 'has control characters')),
  peerURLs: v.pipe(
    v.array(v.pipe(v.string(), v.check(isPeerUrl, 'is not a peer URL'))),
    v.minLength(1, 'is empty'),
    v.maxLength(16, 'is too long'),
    v.readonly(),
  ),
  isLearner: v.boolean(),
});

/** A member of the cluster at the time of the snapshot. */
export type RecordedMember = Readonly<v.InferOutput<typeof RecordedMember>>;

/** In lower-case hex, as `sha256sum` prints it. */
export const Sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'is not a sha256'));

const Fingerprints = v.pipe(v.array(Sha256), v.maxLength(8, 'is too long'), v.readonly());
const Hmac = v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/, 'is not a truncated HMAC'));
const KeyName = v.pipe(v.string(), v.maxLength(100, 'is too long'), v.regex(NO_CONTROLS, 'has control characters'));

const BundleKeys = v.object({
  /** sha256 of the public keys (SPKI) of certificate authorities. */
  cas: Fingerprints,
  /** The same of the keys that verify service-account tokens. */
  serviceAccount: Fingerprints,
  /** The keys of the encryption configuration, in its order, with HMACs keyed by the upload id. */
  encryption: v.pipe(
    v.array(v.object({ provider: KeyName, name: KeyName, hmac: Hmac })),
    v.maxLength(8, 'is too long'),
    v.readonly(),
  ),
  /** Of the server's token of k3s or RKE2. */
  token: v.exactOptional(Hmac),
});

/** What the record says of the keys in a snapshot's bundle: equal keys can be recognised, and none can be derived from it. */
export type BundleKeys = Readonly<v.InferOutput<typeof BundleKeys>>;

const FIELDS = {
  /** Of the whole file. */
  sha256: Sha256,
  /** As `etcdctl snapshot status -w table` prints it. */
  hash: v.pipe(v.string(), v.regex(/^[0-9a-f]{1,8}$/, 'is not a hash as etcdctl prints it')),
  revision: count(0, MAX_REVISION),
  /** All entries, as etcdctl and etcdutl up to 3.5 count them. */
  totalKeys: count(0, MAX_DATABASE),
  /** Keys that a client can get; undefined when there was no memory to count them. */
  liveKeys: v.optional(count(0, MAX_DATABASE)),
  /** Bytes of the database, without the sha256 trailer. */
  totalSize: count(MIN_DATABASE, MAX_DATABASE),
  /** Of the member that was the source; of an imported file the cluster's version, if it has one. */
  etcdVersion: v.optional(Version),
  /** Of the data's format, since etcd 3.6: an older etcd cannot be restored from it. */
  storageVersion: v.optional(Version),
  clusterId: Id,
  /** The member that was the source; an imported file does not say which one of several it was. */
  memberId: v.optional(Id),
  /** What a restore needs of them. */
  members: v.pipe(
    v.string(),
    v.maxLength(MAX_TEXT, 'is too long'),
    v.parseJson(undefined, 'is not JSON'),
    v.array(RecordedMember),
    v.maxLength(100, 'is too long'),
    v.check((members) => new Set(members.map(({ id }) => id)).size === members.length, 'has an id twice'),
    v.readonly(),
  ),
  takenAt: Time,
  /** Random per upload: distinguishes this tool's own commit, whose answer was lost, from another blob. */
  uploadId: v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/, 'is not an upload id')),
  /** Program and version that stored it, such as `etcd-snapshot/0.1.0`. */
  tool: v.pipe(
    v.string(),
    v.maxLength(100, 'is too long'),
    v.regex(/^etcd-snapshot\/\d+(\.\d+){0,2}([-+][\w.+-]+)?$/, 'is not a version of this program'),
  ),
  /** Name of the file that `import` stored; undefined for what came from etcd. */
  imported: v.optional(
    v.pipe(
      v.string(),
      v.maxLength(MAX_NAME, 'is too long'),
      v.regex(/^[\x20-\x7e]+$/, 'has characters that are not ASCII'),
    ),
  ),
  /** How the blob holds the file; undefined where the blob is the file itself. The other two are of the blob then. */
  encoding: v.optional(v.picklist(ENCODINGS, 'is unknown')),
  storedSize: v.optional(count(1, MAX_DATABASE)),
  storedSha256: v.optional(Sha256),
  /** Fingerprints of those who can open an encrypted blob. */
  recipients: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[0-9a-f]{16}(,[0-9a-f]{16}){0,29}$/, 'is not a list of fingerprints'),
      v.transform((text): readonly string[] => text.split(',')),
    ),
  ),
  /** The newest snapshot of the cluster when this one was signed: its name without the prefix, and the sha256 of its record. */
  previous: v.optional(
    v.pipe(
      v.string(),
      v.check((name) => parseSnapshotName(name)?.prefix === '', 'is not a name'),
    ),
  ),
  previousSha256: v.optional(Sha256),
  /** Of the blob with the bundle; undefined where the snapshot has none. */
  bundleSha256: v.optional(Sha256),
  /** Of the files that were listed for the bundle, how many it does not have; undefined = none. */
  bundleMissing: v.optional(count(1, 1_000_000)),
  bundleKeys: v.optional(
    v.pipe(
      v.string(),
      v.maxLength(MAX_TEXT, 'is too long'),
      v.parseJson(undefined, 'is not JSON'),
      BundleKeys,
      v.readonly(),
    ),
  ),
};

/** What metadata must be to count as a record. Fields that a later version adds are ignored. */
const Metadata = v.pipe(
  v.object(FIELDS),
  v.check(
    ({ etcdVersion, memberId, imported }) =>
      imported !== undefined || (etcdVersion !== undefined && memberId !== undefined),
    'lacks etcdversion or memberid',
  ),
  v.check(({ totalKeys, totalSize }) => totalKeys <= totalSize, 'has more keys than bytes'),
  v.check(
    ({ encoding, storedSize, storedSha256 }) =>
      (encoding === undefined) === (storedSize === undefined) &&
      (encoding === undefined) === (storedSha256 === undefined),
    'has only a part of encoding, storedsize and storedsha256',
  ),
  v.check(
    ({ encoding, recipients }) => (encoding !== undefined && isEncrypted(encoding)) === (recipients !== undefined),
    'has recipients without encryption, or the other way round',
  ),
);

/** The record of a snapshot: the blob's metadata, set at the commit and never changed. */
export type SnapshotRecord = Readonly<v.InferOutput<typeof Metadata>>;

/** What a record says of a sealed blob. */
export interface Seal {
  readonly encoding: Encoding;
  /** Bytes. */
  readonly storedSize: number;
  readonly storedSha256: string;
  /** Fingerprints; none where it is not encrypted. */
  readonly recipients: readonly string[];
}

/** What the record of a blob that was stored in this way says of it. */
export function fieldsOfSeal(
  seal: Seal | undefined,
): Pick<SnapshotRecord, 'encoding' | 'storedSize' | 'storedSha256' | 'recipients'> {
  return {
    encoding: seal?.encoding,
    storedSize: seal?.storedSize,
    storedSha256: seal?.storedSha256,
    recipients: seal === undefined || seal.recipients.length === 0 ? undefined : seal.recipients,
  };
}

/** Undefined where the blob is the snapshot's file itself. */
export function sealOf({ encoding, storedSize, storedSha256, recipients = [] }: SnapshotRecord): Seal | undefined {
  if (encoding === undefined || storedSize === undefined || storedSha256 === undefined) return undefined;
  return { encoding, storedSize, storedSha256, recipients };
}

/** Bytes of the snapshot's file. */
export function fileSizeOf({ totalSize }: SnapshotRecord): number {
  return totalSize + TRAILER_SIZE;
}

/** Bytes of its blob. */
export function blobSizeOf(record: SnapshotRecord): number {
  return record.storedSize ?? fileSizeOf(record);
}

/** Names of metadata are the fields' in lower case, because Azure does not keep their case; values are ASCII. */
export function toMetadata(record: SnapshotRecord): Record<string, string> {
  const values = Object.entries({
    ...record,
    members: asciiJson(record.members),
    bundleKeys: record.bundleKeys && asciiJson(record.bundleKeys),
    takenAt: record.takenAt.toISOString(),
  });
  return Object.fromEntries(
    values.flatMap(([field, value]) => (value === undefined ? [] : [[field.toLowerCase(), String(value)]])),
  );
}

/** The result of reading a blob's metadata. */
interface ParsedMetadata {
  /** Only where all of it is well-formed; other blobs are never touched. */
  readonly record?: SnapshotRecord;
  /** What is wrong with metadata of this tool, in words that follow the blob; metadata of others has neither. */
  readonly problem?: string;
}

/** The only parser of records. Names of metadata are in lower case; values can be anything. */
export function parseMetadata(metadata: Readonly<Record<string, unknown>> = {}): ParsedMetadata {
  const { tool } = metadata;
  const isOurs = typeof tool === 'string' && tool.startsWith(TOOL);
  if (!isOurs && !('uploadid' in metadata && 'takenat' in metadata)) return {};
  const fields = Object.keys(FIELDS).map((field) => [field, metadata[field.toLowerCase()]] as const);
  const present = fields.filter(([, value]) => value !== undefined);
  const parsed = v.safeParse(Metadata, Object.fromEntries(present));
  if (parsed.success) return { record: parsed.output };
  return { problem: `its record is not well-formed: ${problemIn(parsed.issues[0])}` };
}

/** A member's name as a record can hold it: the same, or with its control characters escaped and cut. */
export function recordableName(name: string): string {
  if (name.length <= MAX_NAME && NO_CONTROLS.test(name)) return name;
  return printable(name).slice(0, MAX_NAME).toWellFormed();
}

/** Whether a record can hold it as the version of etcd. */
export function isEtcdVersion(text: string): boolean {
  return v.is(Version, text);
}

/** Whether it looks like an id of etcd: lower-case hex, as etcdctl prints it; 0 is none. */
export function isClusterId(text: string): boolean {
  return /^(?!0+$)[0-9a-f]{1,16}$/.test(text);
}

/** The name under which this version of the program signs its records. */
export function toolName(version: string): string {
  return `${TOOL}${version}`;
}

function count(min: number, max: number) {
  return v.pipe(
    v.string(),
    v.regex(/^(0|[1-9]\d{0,15})$/, 'is not a whole number'),
    v.transform(Number),
    v.minValue(min, 'is too small'),
    v.maxValue(max, 'is too large'),
  );
}

function problemIn(issue: v.BaseIssue<unknown>): string {
  const [field = '', ...inside] = (issue.path ?? []).map(({ key }) => String(key));
  const path = [field.toLowerCase(), ...inside].join('.');
  if (issue.kind !== 'schema' || issue.type === 'picklist') return `${path === '' ? 'it' : path} ${issue.message}`;
  return `${path} is ${issue.received === 'undefined' ? 'missing' : 'of the wrong type'}`;
}

function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[^\x20-\x7e]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Undefined for an invalid encoding. */
function percentDecoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** The 30th of February is read as a day of March. */
function isCanonical(text: string): boolean {
  const time = new Date(text);
  return !Number.isNaN(time.getTime()) && time.toISOString() === text;
}
