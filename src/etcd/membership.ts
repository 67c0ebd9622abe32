import type { IMember, IMemberAddResponse, IMemberListResponse } from 'etcd3';
import { EtcdError } from '../errors.ts';
import type { Member } from '../member.ts';
import { ANSWER_MS, type Connection } from './connection.ts';
import { hex, type MemberStatus } from './messages.ts';

/** Milliseconds for a change of the members: it goes through raft, and etcd's own limit is seven seconds. */
const CHANGE_MS = 15_000;

/**
 * The list as this member knows it, without quorum. A learner refuses.
 * @throws EtcdError, also when a member of another cluster answers, or one that is not in its own list
 */
export async function listMembers(
  connection: Connection,
  { clusterId, memberId }: Pick<MemberStatus, 'clusterId' | 'memberId'>,
): Promise<Member[]> {
  const { header, members } = await connection.ask<IMemberListResponse>('Cluster', 'memberList', {}, ANSWER_MS);
  const list = members.map(fromAnswer);
  if (hex(header.cluster_id) === clusterId && list.some(({ id }) => id === memberId)) return list;
  throw new EtcdError(
    `etcd at ${connection.endpoint} does not list the members of cluster ${clusterId}, itself included.`,
    'Name the members themselves, not a load balancer. Was this member removed from the cluster?',
  );
}

/** @throws EtcdError, also if the cluster refuses, for example while a voting member is not connected */
export async function addMember(
  connection: Connection,
  peerURLs: readonly string[],
  isLearner: boolean,
): Promise<Member> {
  const request = { peerURLs, isLearner };
  const { member } = await connection.ask<IMemberAddResponse>('Cluster', 'memberAdd', request, CHANGE_MS);
  return fromAnswer(member);
}

/** @throws EtcdError */
export async function removeMember(connection: Connection, id: string): Promise<void> {
  await connection.ask('Cluster', 'memberRemove', { ID: decimal(id) }, CHANGE_MS);
}

/** Makes a learner a voting member. @throws EtcdError, also when it has not caught up with the leader yet */
export async function promoteMember(connection: Connection, id: string): Promise<void> {
  await connection.ask('Cluster', 'memberPromote', { ID: decimal(id) }, CHANGE_MS);
}

function fromAnswer({ ID, name, peerURLs, clientURLs, isLearner }: IMember): Member {
  return { id: hex(ID), name, peerURLs, clientURLs, isLearner };
}

function decimal(id: string): string {
  return BigInt(`0x${id}`).toString();
}
