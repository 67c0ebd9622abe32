import { invalidStream } from '../backup/pump.ts';
import { isUnspecified, parseOrigin } from '../url.ts';
import { UsageError } from '../errors.ts';
import type { Connection } from '../etcd/connection.ts';
import type { ClusterHealth } from '../etcd/cluster-health.ts';
import { arithmetic, quorumOf } from '../etcd/quorum.ts';
import { snapshotPieces } from '../etcd/snapshot-stream.ts';
import { title } from '../member.ts';
import { printable } from '../text.ts';
import { SnapshotVerifier } from '../snapshot/verify/verifier.ts';
import type { Step } from './steps.ts';

/**
 * Ids of all members that were ever removed. They are in the database of every member, but no RPC returns them (all of etcd's
 * errors for a removed id are those for an unknown one), so a snapshot is streamed, verified and discarded.
 * @param memoryBudget bytes
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

const ORDER = ['remove', 'add', 'start', 'catch up', 'promote', 'done'] as const;

/** The remaining steps in words, each with its effect on the quorum. */
export function plan(step: Step, { quorum }: ClusterHealth, { name, peerURLs, asVoter }: Replacement): string[] {
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

/** What the command line requests. */
export interface Replacement {
  /** Id or name of the failed member. */
  readonly failed: string;
  readonly name: string;
  readonly peerURLs: readonly string[];
  /** Empty = as in the new member's own configuration. */
  readonly clientURLs: readonly string[];
  readonly dataDir: string;
  /** Add a voting member at once, not a learner that is promoted later. */
  readonly asVoter: boolean;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const DIRECTORY = /^\/[\w.+/-]+$/;

/**
 * Reads the options. Their values need no quoting in a shell, an env file or YAML.
 * @param parent of the data directory if none is given
 * @throws UsageError
 */
export function readReplacement(
  failed: string,
  options: Readonly<Record<string, unknown>>,
  parent = '/var/lib/etcd',
): Replacement {
  const name = text(options, 'name');
  const peerURLs = urls(options, 'peer-urls', '2380');
  if (name === undefined || peerURLs === undefined) {
    const missing = name === undefined ? '--name' : '--peer-urls';
    throw new UsageError(
      `replace-member needs ${missing}.`,
      'For example: etcd-snapshot replace-member m3 --name m3-replace-0 --peer-urls https://10.0.0.8:2380',
    );
  }
  if (!NAME.test(name)) {
    throw new UsageError(`Invalid member name --name ${printable(name)}.`, 'Use letters, digits and ._- only.');
  }
  // An empty name, such as an unset shell variable, is that of every member that never started.
  if (failed === '') {
    throw new UsageError('The name of the failed member is empty.', 'Give its name or id: see `etcd-snapshot health`.');
  }
  if (name === failed) {
    throw new UsageError(
      'The failed member and its replacement have the same name.',
      'Choose another --name, such as m3-replace-0, or give the id of the failed member.',
    );
  }
  const dataDir = text(options, 'data-dir') ?? `${parent}/${name}`;
  if (!DIRECTORY.test(dataDir)) {
    throw new UsageError(
      `--data-dir ${printable(dataDir)} is not an absolute path of letters, digits and ._+-.`,
      'For example: /var/lib/etcd/m3-replace-0',
    );
  }
  const clientURLs = urls(options, 'client-urls', '2379') ?? [];
  return { failed, name, peerURLs, clientURLs, dataDir, asVoter: options['voter'] === true };
}

function text(options: Readonly<Record<string, unknown>>, name: string): string | undefined {
  const value = options[name];
  return typeof value === 'string' ? value : undefined;
}

function urls(options: Readonly<Record<string, unknown>>, name: string, defaultPort: string): string[] | undefined {
  return text(options, name)
    ?.split(',')
    .map((value) => {
      const parsed = parseOrigin(value.trim(), ['http:', 'https:'], defaultPort);
      const isNowhere = 'origin' in parsed && isUnspecified(new URL(parsed.origin).hostname);
      if ('origin' in parsed && !isNowhere) return parsed.origin;
      const problem = 'problem' in parsed ? parsed.problem : 'must be an address at which other members reach it';
      throw new UsageError(`--${name} ${problem}.`, `For example: https://10.0.0.8:${defaultPort}`);
    });
}
