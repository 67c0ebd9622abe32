import { EtcdError } from '../errors.ts';
import type { Connection, MemberStatus } from '../etcd/connection.ts';
import { listMembers } from '../etcd/membership.ts';
import type { Warnings } from '../log.ts';
import { sameUrls, title } from '../member.ts';
import type { Content, Member } from '../snapshot/verify/etcd-buckets.ts';
import { printable } from '../text.ts';

/**
 * The members that belong in the record of a snapshot: those of the running cluster, as the source of the snapshot lists them.
 * The file alone does not always tell who they are, so it is only compared with them, and every difference is a warning. Where
 * the source cannot say, they are those of the file.
 */
export async function membersToRecord(
  source: Connection,
  status: MemberStatus,
  content: Content,
  findings: Warnings,
): Promise<readonly Member[]> {
  try {
    const members = await listMembers(source, status);
    warnAboutPromotions(content, members, findings);
    warnAboutDifferences(content, members, findings);
    return members;
  } catch (error) {
    if (!(error instanceof EtcdError)) throw error;
    findings.add(
      `The record has the members that the file lists, for the source did not list those of the cluster: ${error.message}`,
      'Compare them with `etcdctl member list` before you restore from it.',
    );
    warnAboutPromotions(content, content.members, findings);
    return content.members;
  }
}

function warnAboutPromotions({ unwrittenPromotions }: Content, members: readonly Member[], findings: Warnings): void {
  const promoted = members.filter(({ id }) => unwrittenPromotions.includes(id));
  if (promoted.length === 0) return;
  findings.add(
    `etcd's database takes ${promoted.map(({ id, name }) => printable(name || id)).join(', ')} for learners although they vote: etcd before 3.5.20 did not write it down.`,
    'Upgrade to the newest 3.5 before 3.6, which may not start with it (etcd issue 19557).',
  );
}

function warnAboutDifferences(
  { members: inFile, unwrittenPromotions }: Content,
  members: readonly Member[],
  findings: Warnings,
): void {
  const strangers = inFile.filter(({ id }) => !members.some((member) => member.id === id));
  if (strangers.length > 0) {
    findings.add(
      `The file also lists members that are not in the cluster: ${strangers.map(title).join(', ')}. The record leaves them out.`,
      'etcd 3.4 keeps those of the old cluster after a restore. Restore from a plan: a bare file needs --initial-cluster.',
    );
  }
  for (const member of members) {
    const other = inFile.find(({ id }) => id === member.id);
    const differences =
      other === undefined
        ? ['is missing in the file']
        : differencesOf(member, other, unwrittenPromotions.includes(member.id));
    for (const difference of differences) {
      findings.add(
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
