import { basename } from 'node:path';
import type { Description } from '../backup/store-source.ts';
import { UsageError } from '../errors.ts';
import type { Member } from '../member.ts';
import { membersToRestore } from '../restore/initial-members.ts';
import { isEtcdVersion, recordableName, type RecordedMember } from '../snapshot/record.ts';
import type { SnapshotFacts } from '../snapshot/verify/verdict.ts';
import { isPeerUrl, sameUrls } from '../url.ts';

/** What is known of a verified file; what only a second pass needs is left out. */
export type FileFacts = Omit<SnapshotFacts, 'keyPages'>;

/** A running cluster. */
export interface RunningCluster {
  readonly clusterId: string;
  readonly members: readonly Member[];
}

/** Whether the members of a cluster are those in a file, with the same names and peer URLs. */
export function isOfCluster(facts: FileFacts, { members }: RunningCluster): boolean {
  const inFile = new Map(facts.members.map((member) => [member.id, member]));
  const areInFile = members.every(({ id, name, peerURLs }) => {
    const member = inFile.get(id);
    // After an unwritten promotion the file has no name.
    return member !== undefined && (member.name === '' || member.name === name) && sameUrls(member.peerURLs, peerURLs);
  });
  return areInFile && (facts.mayListOldMembers || members.length === facts.members.length);
}

/** What the record of an imported file says; what the file does not know is left out. @param members of the cluster, if it runs */
export function describeFile(
  path: string,
  facts: FileFacts,
  takenAt: Date,
  { clusterId, members = membersOf(facts) }: { clusterId: string; members?: readonly RecordedMember[] | undefined },
): Description {
  const { sha256, hash, revision, totalKeys, liveKeys, totalSize, clusterVersion, storageVersion } = facts;
  const [first, ...others] = members;
  return {
    ...{ sha256, hash, revision, totalKeys, liveKeys, totalSize, storageVersion, clusterId, takenAt },
    etcdVersion: clusterVersion !== undefined && isEtcdVersion(clusterVersion) ? clusterVersion : undefined,
    memberId: others.length === 0 ? first?.id : undefined,
    members: members.map(({ id, name, peerURLs, isLearner }) => {
      return { id, name: recordableName(name), peerURLs, isLearner };
    }),
    imported: asciiName(path),
  };
}

/** The members in the file if it says for certain who they were; otherwise none, and a restore reads the file as well. */
function membersOf(facts: FileFacts): readonly RecordedMember[] {
  const isKnown = facts.members.every(({ peerURLs }) => peerURLs.length > 0 && peerURLs.every(isPeerUrl));
  if (!isKnown || facts.unwrittenPromotions.length > 0) return [];
  try {
    membersToRestore(facts);
    return facts.members;
  } catch (error) {
    if (error instanceof UsageError) return [];
    throw error;
  }
}

/** Metadata is ASCII, and keeps no blanks at the ends. */
function asciiName(path: string): string {
  return basename(path)
    .replace(/[^\x21-\x7e]/g, '?')
    .slice(0, 255);
}
