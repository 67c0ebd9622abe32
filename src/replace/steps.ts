import { invalidStream } from '../backup/stream-from-member.ts';
import { EtcdError, UnsafeError } from '../errors.ts';
import {
  arithmetic,
  type ClusterHealth,
  hasQuorum,
  isHealthy,
  type MemberHealth,
  quorumInWords,
  quorumOf,
  spareOf,
} from '../etcd/cluster-health.ts';
import type { Connection, Connections } from '../etcd/connection.ts';
import { isCorrupt } from '../etcd/select-member.ts';
import { snapshotPieces } from '../etcd/snapshot-stream.ts';
import { hasStarted, title } from '../member.ts';
import { SnapshotVerifier } from '../snapshot/verify/verifier.ts';
import { afterColon, printable } from '../text.ts';
import { isReplacement, type Replacement } from './replacement.ts';

/** The next step. Its member is the failed one to `remove`, and the new one for all other kinds. */
export type Step =
  | { readonly kind: 'add' }
  | { readonly kind: 'remove' | 'start' | 'catch up' | 'promote' | 'done'; readonly member: MemberHealth };

/**
 * The next step of a replacement, by the state of the cluster only. The failed member is removed before its replacement is added:
 * in the other order the quorum would rise while a member is down, which etcd refuses (specification: cluster RPCs).
 * @param wasRemoved whether a failed member that is not in the cluster was removed from it
 * @throws UnsafeError where no step is safe
 */
export function nextStep(cluster: ClusterHealth, replacement: Replacement, wasRemoved: boolean): Step {
  const failed = failedMember(cluster, replacement.failed);
  const rest = cluster.members.filter((member) => member !== failed);
  const added = rest.find((member) => isReplacement(member, replacement));
  if (!hasQuorum(cluster.quorum)) {
    throw refusal(
      cluster,
      'The cluster cannot change its members without quorum',
      'Start enough of its members again; if they are lost permanently, restore a snapshot on new ones (docs/restore.md).',
    );
  }
  if (failed !== undefined) assertFailed(cluster, failed);
  else if (added !== undefined) return nextOf(cluster, added, replacement);
  else if (!wasRemoved) {
    throw refusal(
      cluster,
      `There is no member ${printable(replacement.failed)} in the cluster of ${cluster.members.map(title).join(', ')}`,
      'Run `etcd-snapshot health` to see the members. If the member was removed already, give its id.',
    );
  }
  assertFree(cluster, rest, replacement);
  assertOthersHealthy(cluster, rest);
  assertLearners(cluster, replacement);
  if (failed !== undefined) return { kind: 'remove', member: failed };
  if (replacement.asVoter) assertRoomForVoter(cluster);
  return { kind: 'add' };
}

const ORDER = ['remove', 'add', 'start', 'catch up', 'promote', 'done'] as const;

/** The remaining steps in words, each with its effect on the quorum. */
export function describeSteps(
  step: Step,
  { quorum }: ClusterHealth,
  { name, peerURLs, asVoter }: Replacement,
): string[] {
  const isAhead = (kind: Step['kind']): boolean => ORDER.indexOf(kind) >= ORDER.indexOf(step.kind);
  const isLearner = step.kind === 'remove' || step.kind === 'add' ? !asVoter : step.member.isLearner;
  const { healthy } = quorum;
  let { voters } = quorum;
  const steps: string[] = [];
  if (step.kind === 'remove') {
    if (!step.member.isLearner) voters--;
    steps.push(`remove member ${title(step.member)}: ${arithmetic(quorumOf(voters, healthy))}`);
  }
  if (isAhead('add')) {
    if (!isLearner) voters++;
    const role = isLearner ? 'learner, which has no vote yet' : 'voting member';
    steps.push(`add ${name} at ${peerURLs.join()} as a ${role}: ${arithmetic(quorumOf(voters, healthy))}`);
  }
  if (isAhead('start')) steps.push(`start the etcd of ${name} with its settings`);
  if (isAhead('catch up')) steps.push(`wait until ${name} has the data of the cluster and is healthy`);
  if (isAhead('promote') && isLearner) {
    steps.push(`promote ${name} to a voting member: ${arithmetic(quorumOf(voters + 1, healthy + 1))}`);
  }
  return steps;
}

/** @param failed id or name @throws UnsafeError where several members have that name */
export function failedMember({ members }: ClusterHealth, failed: string): MemberHealth | undefined {
  const [named, namesake] = members.filter(({ name }) => name === failed);
  const byId = members.find(({ id }) => id === failed.toLowerCase());
  if (byId !== undefined || namesake === undefined) return byId ?? named;
  throw new UnsafeError(
    `Two members have the name ${printable(failed)}.`,
    'Give the id of the failed one, which `etcd-snapshot health` shows.',
  );
}

/**
 * Whether an earlier run can have removed the failed member. Removed ids are known, but not names; then the number of voting
 * members must be even, because adding one to an even number never raises the quorum.
 */
export async function looksRemoved(
  { quorum }: ClusterHealth,
  failed: string,
  removedIds: () => Promise<readonly string[]>,
): Promise<boolean> {
  if (isId(failed)) return (await removedIds()).includes(failed.toLowerCase());
  return quorum.voters % 2 === 0 && (await removedIds()).length > 0;
}

/**
 * Ids of all members that were ever removed. Every database has them, but no RPC returns them (etcd's errors for a removed id are
 * those for an unknown one). Therefore a snapshot is streamed, verified and discarded.
 * @throws EtcdError, VerificationError
 */
export async function removedMembers(
  connection: Connection,
  memoryBudget: number,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const verifier = new SnapshotVerifier({ memoryBudget });
  for await (const piece of snapshotPieces(connection, signal)) verifier.push(piece);
  const verdict = verifier.finish();
  if (verdict.ok) return verdict.snapshot.facts.removedMembers;
  throw invalidStream(connection.endpoint, verdict);
}

/** Ids are 64 random bits: few have fewer than twelve digits, and few names look like that. */
export function isId(failed: string): boolean {
  return /^[0-9a-f]{12,16}$/i.test(failed);
}

function nextOf(cluster: ClusterHealth, added: MemberHealth, replacement: Replacement): Step {
  if (added.name !== '' && added.name !== replacement.name) throw urlInUse(cluster, added);
  // A starting etcd accepts connections before the others know its name.
  if (!hasStarted(added) && !added.isAlive) return { kind: 'start', member: added };
  if (!isHealthy(added)) return { kind: 'catch up', member: added };
  return { kind: added.isLearner ? 'promote' : 'done', member: added };
}

/** A member is removed only if it is silent on all its URLs, never started, or is corrupt. */
function assertFailed(cluster: ClusterHealth, member: MemberHealth): void {
  const { status, isAlive, errors } = member;
  const leads = status?.isLeader === true;
  const isUseless = !isAlive || (status !== undefined && isCorrupt(status));
  if (isUseless && !leads && !isHealthy(member)) return;
  let [why, hint] = [
    'still accepts connections',
    'To replace it, first stop etcd there permanently, or shut down the host.',
  ];
  if (leads) {
    why = 'is the leader';
    hint = 'Stop etcd there, or move the leadership to another member first: etcdctl move-leader.';
  }
  if (isHealthy(member)) {
    why = leads ? 'is healthy and the leader' : 'is healthy';
    hint = 'Check the name or id of the failed member with `etcd-snapshot health`.';
  }
  throw refusal(cluster, `Member ${title(member)} ${why}, and is not removed`, hint, errors);
}

function assertFree(cluster: ClusterHealth, rest: readonly MemberHealth[], replacement: Replacement): void {
  const namesake = rest.find(({ name }) => name === replacement.name);
  if (namesake !== undefined) {
    throw refusal(
      cluster,
      `The name ${replacement.name} belongs to member ${title(namesake)}`,
      'Choose another --name.',
    );
  }
  const holder = rest.find((member) => isReplacement(member, replacement));
  if (holder !== undefined) throw urlInUse(cluster, holder);
}

/** etcd adds no member while another is not connected; removing a second one while one is missing is never safe. */
function assertOthersHealthy(cluster: ClusterHealth, rest: readonly MemberHealth[]): void {
  const learner = rest.find(({ isLearner }) => isLearner);
  if (learner !== undefined) {
    throw refusal(
      cluster,
      `Member ${title(learner)} is a learner already, and etcd allows only one`,
      `Promote or remove it first: etcdctl member promote ${learner.id}, or etcdctl member remove ${learner.id}.`,
    );
  }
  const ill = rest.find((member) => !isHealthy(member));
  if (ill === undefined) return;
  throw refusal(
    cluster,
    `Member ${title(ill)} is ${ill.health} too, and only one failure can be repaired at a time`,
    hasStarted(ill)
      ? `Start it again. If it is lost as well: remove it (etcdctl member remove ${ill.id}), replace the first member, then run replace-member ${ill.id}.`
      : `Start its etcd, or remove it: etcdctl member remove ${ill.id}.`,
    ill.errors,
  );
}

/** etcd before 3.4 would treat a learner as a voting member. */
function assertLearners(cluster: ClusterHealth, { asVoter }: Replacement): void {
  const old = cluster.members.find(
    ({ status }) => status !== undefined && /^([0-2]\.|3\.[0-3]\.)/.test(status.version),
  );
  if (old === undefined || asVoter) return;
  throw refusal(
    cluster,
    `Member ${title(old)} runs etcd ${old.status?.version}, which has no learners`,
    'Add the replacement as a voting member with --voter.',
  );
}

function assertRoomForVoter(cluster: ClusterHealth): void {
  const { voters, healthy } = cluster.quorum;
  const after = quorumOf(voters + 1, healthy);
  if (spareOf(after) >= 0) return;
  throw refusal(
    cluster,
    `Adding a voting member would leave ${arithmetic(after)}: the cluster would stop until the new one runs`,
    'Omit --voter: a learner has no vote before it has caught up.',
  );
}

function urlInUse(cluster: ClusterHealth, holder: MemberHealth): UnsafeError {
  return refusal(
    cluster,
    `The peer URL ${printable(holder.peerURLs.join())} belongs to member ${title(holder)}`,
    'Give the URL at which the other members will reach the new one, and the --name with which it was added.',
  );
}

function refusal({ quorum }: ClusterHealth, what: string, hint: string, reasons: readonly string[] = []): UnsafeError {
  const why = reasons.length === 0 ? '.' : `: ${afterColon(reasons.join(' '))}`;
  return new UnsafeError(`${what} (${quorumInWords(quorum)})${why}`, hint);
}

/** Errors after which etcd can accept the change later, or has made it already: the next survey shows which. */
const NOT_YET =
  /unhealthy cluster|in sync with leader|re-configuration failed|too many learner|DEADLINE_EXCEEDED|UNAVAILABLE/;

/** Changes the members. @returns etcd's error after which the change is to be tried again @throws EtcdError */
export async function makeChange(
  step: Step,
  cluster: ClusterHealth,
  { peerURLs, asVoter }: Replacement,
  connections: Connections,
): Promise<EtcdError | undefined> {
  const connection = bestConnection(cluster, connections);
  try {
    if (step.kind === 'remove') await connection.removeMember(step.member.id);
    if (step.kind === 'add') await connection.addMember(peerURLs, !asVoter);
    if (step.kind === 'promote') await connection.promoteMember(step.member.id);
    return undefined;
  } catch (error) {
    if (error instanceof EtcdError && NOT_YET.test(String(error.cause))) return error;
    throw error;
  }
}

/** To the leader, or to another healthy voting member. */
export function bestConnection({ members }: ClusterHealth, connections: Connections): Connection {
  const voters = members
    .filter((member) => isHealthy(member) && !member.isLearner)
    .flatMap(({ status }) => status ?? []);
  const best = voters.find(({ isLeader }) => isLeader) ?? voters[0];
  if (best === undefined)
    throw new UnsafeError('No voting member is healthy.', 'Run `etcd-snapshot health` to see why.');
  return connections.to(best.endpoint);
}
