import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import * as v from 'valibot';
import { UnsafeError } from '../errors.ts';
import { openRegular } from '../files.ts';
import type { SnapshotSource } from '../snapshot/source.ts';
import type { SnapshotFacts } from '../snapshot/verify/verdict.ts';
import { printable } from '../text.ts';
import { Id, Initial, MemberName } from './initial-members.ts';
import { Count, Sha256, Text } from './plan.ts';
import type { MemberParameters } from './restore-request.ts';

/** Bytes. */
const MAX_SIZE = 256 * 1024;

/** In `member`, to move with the data; etcd ignores it there. */
const FILE = 'etcd-snapshot-restore.json';

const MarkerSchema = v.strictObject({
  format: v.literal(1),
  snapshot: v.strictObject({ name: Text, sha256: Sha256, revision: Count, liveKeys: v.nullable(Count) }),
  /** The digest of the plan that was used; null = none. */
  plan: v.nullable(Sha256),
  tool: Text,
  revision: Count,
  member: v.strictObject({
    name: MemberName,
    initialCluster: v.array(v.strictObject(Initial)),
    initialClusterToken: Text,
    initialAdvertisePeerUrls: v.array(Text),
  }),
  /** The cluster of the snapshot; that of a bare file is unknown. */
  previous: v.strictObject({
    clusterId: v.nullable(Id),
    members: v.array(v.strictObject({ id: Id, name: Text })),
  }),
});

/** What a restored directory was made from, and for which member. */
export type Marker = v.InferOutput<typeof MarkerSchema>;

export function markerOf(
  { name, record }: SnapshotSource,
  { sha256, revision, liveKeys, members }: SnapshotFacts,
  member: MemberParameters,
  { plan, tool, bump }: { readonly plan: string | null; readonly tool: string; readonly bump: number },
): Marker {
  return {
    format: 1,
    snapshot: { name, sha256, revision, liveKeys: liveKeys ?? null },
    ...{ plan, tool },
    revision: revision + bump,
    member: markedMember(member),
    previous: {
      clusterId: record?.clusterId ?? null,
      members: (record?.members ?? members).map(({ id, name: called }) => ({ id, name: called })),
    },
  };
}

/** @param dataDir contains `member`, on which no etcd was started yet */
export async function writeMarker(dataDir: string, marker: Marker): Promise<void> {
  const file = await open(join(dataDir, 'member', FILE), 'wx', 0o600);
  await file.writeFile(`${JSON.stringify(marker, undefined, 2)}\n`).finally(async () => file.close());
}

/**
 * Undefined where there is none, or not one of this program: etcd's user can write here.
 * @returns isUsed: etcd has worked with the data since it was restored
 */
export async function readMarker(
  dataDir: string,
): Promise<{ readonly marker: Marker; readonly isUsed: boolean } | undefined> {
  const member = join(dataDir, 'member');
  try {
    const { file, stats } = await openRegular(join(member, FILE), 'refuse');
    const text = await (stats.size > MAX_SIZE ? Promise.resolve('') : file.readFile('utf8')).finally(async () =>
      file.close(),
    );
    const marker = v.parse(MarkerSchema, JSON.parse(text));
    const { mtimeMs } = await stat(join(member, 'snap/db'));
    return { marker, isUsed: mtimeMs > stats.mtimeMs };
  } catch {
    return undefined;
  }
}

/** Whether a member has the parameters of a marker. */
export function sameParameters(member: MemberParameters, marked: Marker['member']): boolean {
  return isDeepStrictEqual(markedMember(member), marked);
}

/** The members of a plan have more fields. */
function markedMember(member: MemberParameters): Marker['member'] {
  const { name, initialClusterToken, initialAdvertisePeerUrls } = member;
  const initialCluster = member.initialCluster.map((one) => ({ name: one.name, peerURLs: [...one.peerURLs] }));
  return { name, initialCluster, initialClusterToken, initialAdvertisePeerUrls: [...initialAdvertisePeerUrls] };
}

/** Whose data a directory contains; ids are lower-case hex, as etcdctl prints them. */
export interface Identity {
  readonly memberId: string;
  readonly clusterId: string;
}

/** Bytes of a WAL file that contain its first two records. */
const HEAD = 4096;
/** Type of the record with the identity. */
const METADATA = 1n;

/** The identity in the newest file of a WAL directory; every file begins with it. Undefined where it cannot be read. */
export async function identityOf(wal: string): Promise<Identity | undefined> {
  try {
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

/**
 * Refuses restored data that has the cluster id of the data that it replaces, as a second restore of a snapshot has: etcd derives
 * the ids from the members and the token. A member that keeps its old data would join the restored cluster with it.
 * @param wal WAL directory of the restored data; `old` those that the member has now
 * @throws UnsafeError
 */
export async function assertNewCluster(wal: string, old: readonly string[]): Promise<void> {
  const restored = await identityOf(wal);
  for (const path of old) {
    const found = await identityOf(path);
    if (restored === undefined || found?.clusterId !== restored.clusterId) continue;
    throw new UnsafeError(
      `${printable(path)} belongs to cluster ${found.clusterId}, like the restored data: the member has data of an earlier restore of this snapshot.`,
      'Give another --initial-cluster-token, the same on all members, or restore from a plan, which has a random token.',
    );
  }
}

/** Frames of a WAL: eight bytes of length, the highest of which has the padding, then the record. */
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
