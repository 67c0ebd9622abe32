import { invalidStream } from '../backup/pump.ts';
import { parseOrigin } from '../url.ts';
import { UsageError } from '../errors.ts';
import type { Connection } from '../etcd/connection.ts';
import type { ClusterHealth } from '../etcd/cluster-health.ts';
import { arithmetic, quorumOf } from '../etcd/quorum.ts';
import { snapshotPieces } from '../etcd/snapshot-stream.ts';
import { title } from '../member.ts';
import { SnapshotVerifier } from '../snapshot/verify/verifier.ts';
import type { Step } from './steps.ts';

/**
 * Ids of the members that were ever removed. Every member's database has them, but no call tells them, so a snapshot is read
 * for it and not kept.
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

/** A replacement as the command line asks for it. */
export interface Replacement {
  /** Id or name of the failed member. */
  readonly failed: string;
  readonly name: string;
  readonly peerURLs: readonly string[];
  /** None where they are to stay as the new member's configuration has them. */
  readonly clientURLs: readonly string[];
  readonly dataDir: string;
  /** Added as a voting member at once, instead of as a learner that is promoted later. */
  readonly asVoter: boolean;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const DIRECTORY = /^\/[\w.+/-]+$/;

/**
 * What these options ask for. Values are such that they can stand in a shell's line, an env file and YAML as they are.
 * @param parent of the data directory, where none is given
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
    throw new UsageError(`--name ${name} is no name for a member.`, 'Use letters, digits and ._- only.');
  }
  // An empty name, as of a shell's variable that is not set, would be that of every member that never started.
  if (failed === '') {
    throw new UsageError('The name of the failed member is empty.', 'Name it, or its id: see `etcd-snapshot health`.');
  }
  if (name === failed) {
    throw new UsageError(
      'The failed member and its replacement have the same name, so nobody can tell them apart.',
      'Choose another --name, such as m3-replace-0, or name the failed member by its id.',
    );
  }
  const dataDir = text(options, 'data-dir') ?? `${parent}/${name}`;
  if (!DIRECTORY.test(dataDir)) {
    throw new UsageError(
      `--data-dir ${dataDir} is no directory's full path.`,
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
      if ('origin' in parsed) return parsed.origin;
      throw new UsageError(`--${name} ${parsed.problem}.`, `For example: https://10.0.0.8:${defaultPort}`);
    });
}
