import { EtcdError } from '../errors.ts';
import type { Connection } from '../etcd/connection.ts';
import type { MemberStatus } from '../etcd/messages.ts';
import { listMembers } from '../etcd/membership.ts';
import type { Warnings } from '../log.ts';
import { type Member, title } from '../member.ts';
import { recordableName, type RecordedMember, type SnapshotRecord, toolName } from '../snapshot/record.ts';
import type { Content } from '../snapshot/verify/etcd-buckets.ts';
import { printable } from '../text.ts';
import type { StreamedSnapshot } from './attempts.ts';
import { sameUrls } from '../url.ts';

/** The record that travels with a snapshot as its blob's metadata. @param version of this program */
export function makeRecord(
  { snapshot: { facts }, source, members, upload }: StreamedSnapshot,
  takenAt: Date,
  version: string,
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
    members = await listMembers(source, status);
    warnAboutPromotions(file, members, warnings);
    warnAboutDifferences(file, members, warnings);
  } catch (error) {
    if (!(error instanceof EtcdError)) throw error;
    warnings.add(
      `The record has the members of the file, because the source did not list those of the cluster: ${error.message}`,
      'Compare them with `etcdctl member list` before you restore from it.',
    );
    warnAboutPromotions(file, members, warnings);
  }
  return members.map((member) => {
    const name = recordableName(member.name);
    if (name !== member.name) {
      warnings.add(
        `The name of member ${member.id} has control characters or is too long; the record has it as ${name}.`,
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
    `etcd's database lists ${promoted.map(({ id, name }) => printable(name || id)).join(', ')} as learners although they vote: etcd before 3.5.20 did not write the promotion.`,
    'Upgrade to the newest 3.5 before 3.6, which can refuse to start with it (etcd issue 19557).',
  );
}

function warnAboutDifferences(file: Content, members: readonly Member[], warnings: Warnings): void {
  const strangers = file.members.filter(({ id }) => !members.some((member) => member.id === id));
  if (strangers.length > 0) {
    warnings.add(
      `The file also lists members that are not in the cluster: ${strangers.map(title).join(', ')}. The record leaves them out.`,
      'etcd 3.4 keeps those of the old cluster after a restore. Restore from a plan: a bare file needs --initial-cluster.',
    );
  }
  for (const member of members) {
    const inFile = file.members.find(({ id }) => id === member.id);
    const wasPromoted = file.unwrittenPromotions.includes(member.id);
    const differences = inFile === undefined ? ['is missing in the file'] : differencesOf(member, inFile, wasPromoted);
    for (const difference of differences) {
      warnings.add(
        `Member ${title(member)} ${difference}; the record has what the cluster says.`,
        'If the members were changed during this backup, take another one.',
      );
    }
  }
}

/** In words that follow the member. @param wasPromoted etcd did not store its promotion: its name is missing, too */
function differencesOf(member: Member, inFile: Member, wasPromoted: boolean): string[] {
  return [
    ...(member.name === inFile.name || wasPromoted ? [] : [`is called ${JSON.stringify(inFile.name)} in the file`]),
    ...(sameUrls(member.peerURLs, inFile.peerURLs)
      ? []
      : [`has ${printable(inFile.peerURLs.join()) || 'no peer URL'} in the file`]),
    ...(member.isLearner === inFile.isLearner ? [] : [`is ${role(inFile)} in the file, and ${role(member)} here`]),
  ];
}

function role({ isLearner }: Member): string {
  return isLearner ? 'a learner' : 'a voting member';
}
