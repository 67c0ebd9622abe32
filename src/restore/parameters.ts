import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { UsageError } from '../errors.ts';
import { openRegular } from '../files.ts';
import { printable } from '../text.ts';
import {
  aloneAs,
  assertPossible,
  formatInitialCluster,
  type InitialMember,
  isSetOf,
  type Known,
  membersToRestore,
  parseInitialCluster,
  sameMembers,
  tokenOf,
} from './initial-members.ts';
import type { RestoreRequest } from './options.ts';
import type { Plan } from './plan-file.ts';
import type { MemberParameters } from './tool.ts';
import { sameUrls } from '../url.ts';

/** Whose data a directory holds; ids are lower-case hex, as etcdctl prints them. */
export interface Identity {
  readonly memberId: string;
  readonly clusterId: string;
}

/** Bytes of the beginning of a WAL file; its first two records are much shorter. */
const HEAD = 4096;
/** Record types. */
const METADATA = 1n;

/** As the newest file of the write-ahead log says, each of which begins with it. Undefined where there is none, or where it cannot be read. */
export async function identityOf(memberDir: string): Promise<Identity | undefined> {
  try {
    const wal = join(memberDir, 'wal');
    const newest = (await readdir(wal))
      .filter((name) => name.endsWith('.wal'))
      .toSorted()
      .at(-1);
    if (newest === undefined) return undefined;
    const { file } = await openRegular(join(wal, newest), 'refuse');
    const { buffer, bytesRead } = await file.read(Buffer.alloc(HEAD), 0, HEAD, 0).finally(async () => file.close());
    return identityIn(buffer.subarray(0, bytesRead));
  } catch {
    return undefined;
  }
}

/** The frames of a WAL: eight bytes of length, of which the uppermost tells of padding, then the record. */
function identityIn(head: Buffer): Identity | undefined {
  for (let at = 0; at + 8 <= head.length;) {
    const length = Number(head.readBigUInt64LE(at) & 0x00ff_ffff_ffff_ffffn);
    const padding = head.readUInt8(at + 7) & 0x80 ? head.readUInt8(at + 7) & 7 : 0;
    const record = fieldsOf(head.subarray(at + 8, at + 8 + length));
    const data = record.get(3);
    if (record.get(1) === METADATA && Buffer.isBuffer(data)) {
      const [memberId, clusterId] = [fieldsOf(data).get(1), fieldsOf(data).get(2)];
      if (typeof memberId !== 'bigint' || typeof clusterId !== 'bigint') return undefined;
      return { memberId: memberId.toString(16), clusterId: clusterId.toString(16) };
    }
    at += 8 + length + padding;
  }
  return undefined;
}

/** Numbers and bytes of a flat protobuf message. */
function fieldsOf(message: Buffer): Map<number, bigint | Buffer> {
  const fields = new Map<number, bigint | Buffer>();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message.readUInt8(at++);
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80 || shift >= 63n) return value;
    }
  };
  while (at < message.length) {
    const tag = Number(varint());
    if ((tag & 7) === 0) fields.set(tag >> 3, varint());
    else if ((tag & 7) === 2) {
      const length = Number(varint());
      fields.set(tag >> 3, message.subarray(at, at + length));
      at += length;
    } else break;
  }
  return fields;
}

export interface Resolved {
  readonly member: MemberParameters;
  /** What the operator should know of it, in sentences. */
  readonly notes: readonly string[];
}

/**
 * Works out what one member is told. A plan decides everything. Otherwise a member's own configuration gives its name, and the
 * snapshot gives the set: what a configuration says of the set is of the day on which the member joined.
 * @throws UsageError for whatever contradicts itself
 */
export function memberFor(request: RestoreRequest, known: Known): Resolved {
  return request.plan === undefined ? fromRequest(request, known) : fromPlan(request.plan, request, known);
}

/** Whether the set was given by hand, now or for the plan: then nothing that the snapshot says of it counts. */
export function isGivenByHand({ plan, initialCluster }: RestoreRequest): boolean {
  return plan === undefined ? initialCluster !== undefined : plan.membersGiven === true;
}

function fromPlan(plan: Plan, request: RestoreRequest, known: Known): Resolved {
  const { members, initialClusterToken } = plan;
  assertPossible(members);
  if (!isGivenByHand(request) && !isSetOf(members, known)) {
    throw new UsageError(
      `The plan is for other members than the snapshot has: ${printable(plan.initialCluster)}.`,
      'Make a new plan, and use it on all members.',
    );
  }
  const own = members.find(({ name }) => name === nameIn(request));
  const names = members.map(({ name }) => name).join(', ');
  if (own === undefined) throw notOneOf(nameIn(request), names);
  const member = {
    name: own.name,
    initialCluster: members,
    initialClusterToken,
    initialAdvertisePeerUrls: own.peerURLs,
  };
  return { member, notes: [] };
}

function fromRequest(request: RestoreRequest, known: Known): Resolved {
  const { config } = request;
  const name = nameIn(request);
  const { set, notes } = setFor(request, name, known);
  assertPossible(set);
  const initialCluster = formatInitialCluster(set);
  const own = set.find((member) => member.name === name);
  if (own === undefined) throw notOneOf(name, initialCluster);
  const advertised = (request.initialAdvertisePeerUrls ?? config?.initialAdvertisePeerUrls)?.split(',');
  if (
    advertised !== undefined &&
    !(advertised.every((url) => URL.canParse(url)) && sameUrls(advertised, own.peerURLs))
  ) {
    throw new UsageError(
      `Member ${name} would advertise ${advertised.join()}, but is ${own.peerURLs.join()} in the set that is restored.`,
      'Give --initial-cluster with the addresses that the members have now, the same on all of them.',
    );
  }
  if (config?.initialCluster !== undefined && !sameMembers(parseInitialCluster(config.initialCluster), set)) {
    notes.push(`The member's own configuration names another set; it is restored as ${initialCluster}.`);
  }
  const initialClusterToken = request.initialClusterToken ?? tokenOf(known.sha256);
  return { member: { name, initialCluster: set, initialClusterToken, initialAdvertisePeerUrls: own.peerURLs }, notes };
}

/** The members that are restored, and what should be known of the choice. */
function setFor(
  { initialCluster, config }: RestoreRequest,
  name: string,
  known: Known,
): { readonly set: readonly InitialMember[]; readonly notes: string[] } {
  if (initialCluster !== undefined) return { set: parseInitialCluster(initialCluster), notes: [] };
  if (config === undefined) {
    const set = aloneAs(name, known);
    const isKnown = known.members.some((member) => member.name === name);
    const note = `${name} is no member of the snapshot's cluster; it is restored alone, at ${formatInitialCluster(set)}.`;
    return { set, notes: isKnown ? [] : [note] };
  }
  assertNamed(known);
  const { voters, leftOut } = membersToRestore(known);
  const notes = leftOut.map(({ id, name: named, reason }) => `Member ${named || id} ${reason}.`);
  if (known.mayListOldMembers === true && voters.length > 1) {
    notes.push(
      `A file of etcd 3.4 can list members of an old cluster, too; it is restored as ${formatInitialCluster(voters)}.`,
    );
  }
  return { set: voters, notes };
}

/** @throws UsageError when a member that had data would be forgotten for want of its name */
function assertNamed({ members, unwrittenPromotions = [] }: Known): void {
  const nameless = members.filter(({ id, name }) => name === '' && unwrittenPromotions.includes(id));
  if (nameless.length === 0) return;
  const urls = nameless.map(({ peerURLs }) => printable(peerURLs.join(',')));
  throw new UsageError(
    `The snapshot does not say what the members at ${urls.join(' and ')} are called: etcd before 3.5.20 did not write it down.`,
    'Give --initial-cluster, the same on all members; or restore from a plan of the stored snapshot, whose record has the names.',
  );
}

function nameIn({ name, config, plan }: RestoreRequest): string {
  const found = name ?? config?.name;
  if (found !== undefined) return found;
  throw new UsageError(
    'It is not said which member is restored.',
    plan === undefined ? 'Give --name, or --from with the file that starts etcd here.' : 'Give --member.',
  );
}

function notOneOf(name: string, set: string): UsageError {
  return new UsageError(
    `${name} is not one of the members that are restored: ${set}.`,
    'Is it spelt as etcd knows it? A member that joined after the snapshot is given with --initial-cluster, the same on all.',
  );
}
