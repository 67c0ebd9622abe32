import { setTimeout as sleep } from 'node:timers/promises';
import { EtcdError, StorageError } from '../errors.ts';
import type { Connection } from '../etcd/connection.ts';
import type { MemberStatus } from '../etcd/messages.ts';
import type { Warnings } from '../log.ts';
import { type Member, title } from '../member.ts';
import { newestSnapshot } from '../snapshot/inventory.ts';
import {
  type BundleKeys,
  fieldsOfSeal,
  recordableName,
  type RecordedMember,
  type SnapshotRecord,
  toolName,
} from '../snapshot/record.ts';
import { type Encoding, snapshotName } from '../snapshot/snapshot-name.ts';
import type { Content } from '../snapshot/verify/etcd-buckets.ts';
import type { BlobStore } from '../store/store.ts';
import { afterColon, printable } from '../text.ts';
import { sameUrls } from '../url.ts';
import type { StreamedSnapshot } from './stream-from-member.ts';

const NAME_TRIES = 5;

/**
 * A name for a snapshot taken now. Names have a resolution of one second: if another worker has this one, the next one is tried. The
 * commit checks it again, and fails if none was free for several seconds.
 * @throws StorageError
 */
export async function findFreeName(
  store: BlobStore,
  encoding: Encoding | undefined,
  signal: AbortSignal,
): Promise<{ name: string; takenAt: Date }> {
  for (let tries = 1; ; tries++) {
    const takenAt = new Date();
    const name = snapshotName(store.prefix, takenAt, encoding);
    if ((await store.isFree(name)) || tries === NAME_TRIES) return { name, takenAt };
    // The next request fails with the reason of an abort.
    await sleep(1000 - takenAt.getMilliseconds(), undefined, { signal }).catch(() => {});
  }
}

/** The snapshot that a signed record refers to. */
type Previous = Pick<SnapshotRecord, 'previous' | 'previousSha256'>;

/**
 * The newest snapshot of the cluster, for a record that is going to be signed: what is removed later is missed then. No backup
 * fails because of it.
 */
export async function findPrevious(store: BlobStore, clusterId: string, warnings: Warnings): Promise<Previous> {
  try {
    const blobs = await store.list();
    const newest = newestSnapshot(blobs, { clusterId, previousClusterIds: [] }, new Date());
    if (newest === undefined) return {};
    return { previous: newest.name.slice(store.prefix.length), previousSha256: newest.recordSha256 };
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    if (error.code === 'ContainerNotFound') return {};
    warnings.add(
      `The record does not refer to the previous snapshot, because it is not known: ${afterColon(error.message)}`,
      error.hint,
    );
    return {};
  }
}

/** The bundle of a snapshot, as its record describes it. */
interface RecordedBundle {
  readonly sha256: string;
  readonly keys: BundleKeys;
}

/** The record that travels with a snapshot as its blob's metadata. @param version of this program */
export function makeRecord(
  { snapshot: { facts }, source, members, upload, seal }: StreamedSnapshot,
  takenAt: Date,
  version: string,
  previous: Previous,
  bundle: RecordedBundle | undefined,
  bundleMissing: number | undefined,
): SnapshotRecord {
  return {
    sha256: facts.sha256,
    hash: facts.hash,
    revision: facts.revision,
    totalKeys: facts.totalKeys,
    liveKeys: facts.liveKeys,
    totalSize: facts.totalSize,
    etcdVersion: source.version,
    storageVersion: facts.storageVersion,
    clusterId: source.clusterId,
    memberId: source.memberId,
    members,
    takenAt,
    uploadId: upload.uploadId,
    tool: toolName(version),
    ...fieldsOfSeal(seal),
    ...previous,
    bundleSha256: bundle?.sha256,
    bundleMissing: bundle && bundleMissing,
    bundleKeys: bundle?.keys,
  };
}

/**
 * The members for the record of a snapshot: those of the running cluster, as the source of the snapshot lists them. The file
 * alone does not always say who they are, so it is only compared with them, and every difference is a warning. Where the
 * source does not answer, they are those of the file.
 */
export async function membersToRecord(
  source: Connection,
  status: MemberStatus,
  file: Content,
  warnings: Warnings,
): Promise<RecordedMember[]> {
  let members = file.members;
  try {
    members = await source.listMembers(status);
    warnAboutPromotions(file, members, warnings);
    warnAboutDifferences(file, members, warnings);
  } catch (error) {
    if (!(error instanceof EtcdError)) throw error;
    warnings.add(
      `The record lists the members that are in the snapshot, because etcd did not return the current ones: ${afterColon(error.message)}`,
      'Compare them with `etcdctl member list` before you restore from it.',
    );
    warnAboutPromotions(file, members, warnings);
  }
  return members.map((member) => {
    const name = recordableName(member.name);
    if (name !== member.name) {
      warnings.add(
        `The name of member ${member.id} has control characters or is too long; it is recorded as ${name}.`,
        'Give that member another name. A restore of this snapshot needs --initial-cluster.',
      );
    }
    return { id: member.id, name, peerURLs: member.peerURLs, isLearner: member.isLearner };
  });
}

function warnAboutPromotions({ unwrittenPromotions }: Content, members: readonly Member[], warnings: Warnings): void {
  const promoted = members.filter(({ id }) => unwrittenPromotions.includes(id));
  if (promoted.length === 0) return;
  warnings.add(
    `etcd's database lists ${promoted.map(({ id, name }) => printable(name || id)).join(', ')} as learners, but they vote: etcd before 3.5.20 did not save the promotion.`,
    'Upgrade to the newest 3.5 before you upgrade to 3.6, which can refuse to start with such data (etcd issue 19557).',
  );
}

function warnAboutDifferences(file: Content, members: readonly Member[], warnings: Warnings): void {
  const strangers = file.members.filter(({ id }) => !members.some((member) => member.id === id));
  if (strangers.length > 0) {
    warnings.add(
      `The file also lists members that are not in the cluster: ${strangers.map(title).join(', ')}. The record omits them.`,
      'Restore from a plan: a file alone needs --initial-cluster. After a restore, etcd 3.4 keeps the members of the old cluster in its data.',
    );
  }
  for (const member of members) {
    const inFile = file.members.find(({ id }) => id === member.id);
    // With an unwritten promotion the name is missing, too.
    const hasName = member.name === inFile?.name || file.unwrittenPromotions.includes(member.id);
    const hasUrls = inFile !== undefined && sameUrls(member.peerURLs, inFile.peerURLs);
    if (hasName && hasUrls && member.isLearner === inFile.isLearner) continue;
    warnings.add(
      `The cluster lists member ${inWords(member)}, but the snapshot has ${inFile === undefined ? 'no such member' : inWords(inFile)}. The record follows the cluster.`,
      'If the members were changed during this backup, take another one.',
    );
  }
}

function inWords(member: Member): string {
  const urls = printable(member.peerURLs.join()) || 'no peer URL';
  return `${title(member)} with ${urls} as a ${member.isLearner ? 'learner' : 'voting member'}`;
}
