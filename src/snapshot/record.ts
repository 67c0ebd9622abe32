/** One voting or learning member of the cluster at the time of the snapshot. Ids are lower-case hex, as etcdctl prints them. */
export interface RecordedMember {
  readonly id: string;
  readonly name: string;
  readonly peerURLs: readonly string[];
  readonly isLearner: boolean;
}

/** What is remembered of a snapshot: it travels as the blob's metadata, set at the commit and never changed. */
export interface SnapshotRecord {
  /** Of the whole file in lower-case hex, as `sha256sum` prints it. */
  readonly sha256: string;
  /** As `etcdctl snapshot status -w table` prints it. */
  readonly hash: string;
  readonly revision: number;
  /** All entries, as etcdctl and etcdutl up to 3.5 count them. */
  readonly totalKeys: number;
  /** Keys that a client can get; undefined when there was no memory to count them. */
  readonly liveKeys: number | undefined;
  /** Bytes of the database, without the sha256 trailer. */
  readonly totalSize: number;
  readonly etcdVersion: string;
  /** Of the data's format, since etcd 3.6: an older etcd cannot be restored from it. */
  readonly storageVersion: string | undefined;
  readonly clusterId: string;
  /** The member that was the source. */
  readonly memberId: string;
  readonly members: readonly RecordedMember[];
  readonly takenAt: Date;
  /** Random per upload: tells our own commit, whose answer was lost, from a foreign blob. */
  readonly uploadId: string;
  /** Program and version that stored it, such as `etcd-snapshot/0.1.0`. */
  readonly tool: string;
}

const TOOL = 'etcd-snapshot/';

/** Metadata names are lower-case ASCII, for Azure does not keep their case; values are ASCII. */
export function toMetadata(record: SnapshotRecord): Record<string, string> {
  return {
    sha256: record.sha256,
    hash: record.hash,
    revision: String(record.revision),
    totalkeys: String(record.totalKeys),
    ...(record.liveKeys === undefined ? {} : { livekeys: String(record.liveKeys) }),
    totalsize: String(record.totalSize),
    etcdversion: record.etcdVersion,
    ...(record.storageVersion === undefined ? {} : { storageversion: record.storageVersion }),
    clusterid: record.clusterId,
    memberid: record.memberId,
    // What a restore needs of them: metadata has room for 8 KiB in all.
    members: asciiJson(record.members.map(({ id, name, peerURLs, isLearner }) => ({ id, name, peerURLs, isLearner }))),
    takenat: record.takenAt.toISOString(),
    uploadid: record.uploadId,
    tool: record.tool,
  };
}

/** Undefined for metadata that is not a whole record of this tool: such a blob is never touched. */
export function fromMetadata(metadata: Readonly<Record<string, string>> | undefined): SnapshotRecord | undefined {
  const value = (name: string): string => metadata?.[name] ?? '';
  const takenAt = new Date(value('takenat'));
  const [revision, totalKeys, totalSize] = [value('revision'), value('totalkeys'), value('totalsize')].map(count);
  const members = parseMembers(value('members'));
  const whole =
    value('tool').startsWith(TOOL) &&
    /^[0-9a-f]{64}$/.test(value('sha256')) &&
    isClusterId(value('clusterid')) &&
    !Number.isNaN(takenAt.getTime());
  if (!whole || members === undefined) return undefined;
  if (revision === undefined || totalKeys === undefined || totalSize === undefined) return undefined;
  return {
    sha256: value('sha256'),
    hash: value('hash'),
    revision,
    totalKeys,
    liveKeys: count(value('livekeys')),
    totalSize,
    etcdVersion: value('etcdversion'),
    storageVersion: value('storageversion') || undefined,
    clusterId: value('clusterid'),
    memberId: value('memberid'),
    members,
    takenAt,
    uploadId: value('uploadid'),
    tool: value('tool'),
  };
}

/** Whether it looks like an id of etcd: lower-case hex, as etcdctl prints it. */
export function isClusterId(text: string): boolean {
  return /^[0-9a-f]{1,16}$/.test(text);
}

/** The name under which this version of the program signs its records. */
export function toolName(version: string): string {
  return `${TOOL}${version}`;
}

function count(text: string): number | undefined {
  return /^\d{1,16}$/.test(text) ? Number(text) : undefined;
}

function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[^\x20-\x7e]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function parseMembers(json: string): RecordedMember[] | undefined {
  try {
    const members: unknown = JSON.parse(json);
    return Array.isArray(members) ? (members as RecordedMember[]) : undefined;
  } catch {
    return undefined;
  }
}
