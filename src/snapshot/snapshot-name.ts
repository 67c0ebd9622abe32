/** How a blob or a file holds a snapshot, if not as etcd made it: names of formats, the innermost first. */
export const ENCODINGS = ['zstd+age', 'zstd', 'age'] as const;
export type Encoding = (typeof ENCODINGS)[number];

const NAME =
  /kubernetes-etcd-snapshot_(\d{4})(\d{2})(\d{2})_(\d{2})(\d{2})(\d{2})(?:\.db(?:\.zst)?(?:\.age)?|-r([2-9]|[1-9]\d{1,3})\.db(?:\.zst)?\.age)$/;

/** The greatest number of a form in a name. */
export const MAX_FORM = 9999;

const SUFFIXES: Readonly<Record<Encoding, string>> = { 'zstd+age': '.zst.age', zstd: '.zst', age: '.age' };

/**
 * `<prefix>kubernetes-etcd-snapshot_YYYYMMDD_HHMMSS.db` in UTC, of fixed width, so that names sort by age. The name of a sealed
 * snapshot also has the endings that `zstd` and `age` files usually have.
 * @param form 1 for the blob of the backup; each later one, which `rewrap` stored, has `-r2`, `-r3` … after the time
 */
export function snapshotName(prefix: string, takenAt: Date, encoding?: Encoding, form = 1): string {
  const [day, time] = takenAt.toISOString().split(/[T.]/);
  const suffix = encoding === undefined ? '' : SUFFIXES[encoding];
  const stem = `kubernetes-etcd-snapshot_${day?.replaceAll('-', '')}_${time?.replaceAll(':', '')}`;
  return `${prefix}${stem}${form === 1 ? '' : `-r${form}`}.db${suffix}`;
}

interface NameParts {
  readonly prefix: string;
  readonly takenAt: Date;
  readonly form: number;
}

/** The parts of a name that this tool gives; undefined for any other name. */
export function parseSnapshotName(name: string): NameParts | undefined {
  const match = NAME.exec(name);
  if (match === null) return undefined;
  const [, year, month, day, hour, minute, second, form = '1'] = match;
  const takenAt = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  if (Number.isNaN(takenAt.getTime())) return undefined;
  return { prefix: name.slice(0, match.index), takenAt, form: Number(form) };
}

/** Which form of a snapshot has this name; 1 for a name that this tool does not give. */
export function formOf(name: string): number {
  return parseSnapshotName(name)?.form ?? 1;
}

/** When a snapshot of this name was taken; undefined for a name that this tool does not give under this prefix. */
export function takenAtOf(prefix: string, name: string): Date | undefined {
  const parsed = parseSnapshotName(name);
  return parsed?.prefix === prefix ? parsed.takenAt : undefined;
}

/** The name of the snapshot's file. */
export function withoutEncoding(name: string): string {
  const encoding = encodingOfName(name);
  return encoding === undefined ? name : name.slice(0, -SUFFIXES[encoding].length);
}

/** The names that a sealed snapshot could have, if this is the name of its file. */
export function sealedNames(name: string): string[] {
  return name.endsWith('.db') ? Object.values(SUFFIXES).map((suffix) => `${name}${suffix}`) : [];
}

export function isCompressed(encoding: Encoding): boolean {
  return encoding.startsWith('zstd');
}

export function isEncrypted(encoding: Encoding): boolean {
  return encoding.endsWith('age');
}

/** What the ending of a name promises. */
export function encodingOfName(name: string): Encoding | undefined {
  return ENCODINGS.find((encoding) => name.endsWith(SUFFIXES[encoding]));
}

const BUNDLE = '.bundle.tar.zst.age';

/** The name of the blob with the keys that belong to a snapshot. */
export function bundleName(snapshot: string): string {
  return `${withoutEncoding(snapshot).replace(/\.db$/, '')}${BUNDLE}`;
}

export function isBundleName(name: string): boolean {
  return name.endsWith(BUNDLE) && parseSnapshotName(name.replace(BUNDLE, '.db.age')) !== undefined;
}
