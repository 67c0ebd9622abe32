import type { ClusterHealth } from './health.ts';
import { arithmetic, quorumOf } from './quorum.ts';
import type { Step } from './replacement.ts';
import type { Replacement } from './request.ts';
import { title } from '../snapshot/member.ts';

const ORDER = ['remove', 'add', 'start', 'catch up', 'promote', 'done'] as const;

/** The steps that are left, from the given one on, each in words and with what it does to the quorum. */
export function plan(step: Step, { quorum }: ClusterHealth, { name, peerURLs, asVoter }: Replacement): string[] {
  const isToCome = (kind: Step['kind']): boolean => ORDER.indexOf(kind) >= ORDER.indexOf(step.kind);
  const isLearner = step.kind === 'remove' || step.kind === 'add' ? !asVoter : step.member.isLearner;
  const { healthy } = quorum;
  let { voters } = quorum;
  const steps: string[] = [];
  if (step.kind === 'remove') {
    if (!step.member.isLearner) voters--;
    steps.push(`remove member ${title(step.member)}: ${arithmetic(quorumOf(voters, healthy))}`);
  }
  if (isToCome('add')) {
    if (!isLearner) voters++;
    const role = isLearner ? 'learner, which has no vote yet' : 'voting member';
    steps.push(`add ${name} at ${peerURLs.join()} as a ${role}: ${arithmetic(quorumOf(voters, healthy))}`);
  }
  if (isToCome('start')) steps.push(`start the etcd of ${name} with its settings`);
  if (isToCome('catch up')) steps.push(`wait until ${name} has the data of the cluster and is healthy`);
  if (isToCome('promote') && isLearner) {
    steps.push(`promote ${name} to a voting member: ${arithmetic(quorumOf(voters + 1, healthy + 1))}`);
  }
  return steps;
}
