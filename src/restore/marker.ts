import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { openRegular } from '../files.ts';
import type { RecordedMember } from '../snapshot/record.ts';
import { Count, Id, Initial, MemberName, Sha256, Text } from './schemas.ts';
import type { MemberParameters } from './tool.ts';

/** Bytes; no marker of ours is larger. */
const MAX_SIZE = 256 * 1024;

/** In `member`, so that it moves with the data. etcd looks at its own names only. */
const FILE = 'etcd-snapshot-restore.json';

const MarkerSchema = v.strictObject({
  format: v.literal(1),
  snapshot: v.strictObject({ name: Text, sha256: Sha256, revision: Count, liveKeys: v.nullable(Count) }),
  /** The digest of the plan that it was made by; null = by none. */
  plan: v.nullable(Sha256),
  tool: Text,
  revision: Count,
  member: v.strictObject({
    name: MemberName,
    initialCluster: v.array(v.strictObject(Initial)),
    initialClusterToken: Text,
    initialAdvertisePeerUrls: v.array(Text),
  }),
  /** The cluster that the snapshot was taken of; the id of a bare file's is not known. */
  previous: v.strictObject({
    clusterId: v.nullable(Id),
    members: v.array(v.strictObject({ id: Id, name: Text })),
  }),
});

/** What a restored directory remembers: of what and for whom it was made. */
export type Marker = v.InferOutput<typeof MarkerSchema>;

export function previousOf(
  clusterId: string | null,
  members: readonly Pick<RecordedMember, 'id' | 'name'>[],
): Marker['previous'] {
  return { clusterId, members: members.map(({ id, name }) => ({ id, name })) };
}

/** @param dataDir holds `member`, and nobody has started etcd on it yet */
export async function writeMarker(dataDir: string, marker: Marker): Promise<void> {
  const file = await open(join(dataDir, 'member', FILE), 'wx', 0o600);
  await file.writeFile(`${JSON.stringify(marker, undefined, 2)}\n`).finally(async () => file.close());
}

export interface FoundMarker {
  readonly marker: Marker;
  /** etcd has worked with the data since it was restored. */
  readonly isUsed: boolean;
}

/** Undefined where there is none, or none that this program wrote: etcd's user can write here. */
export async function readMarker(dataDir: string): Promise<FoundMarker | undefined> {
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

/** Whether two members are started with the same parameters. */
export function sameParameters(a: MemberParameters, b: Marker['member']): boolean {
  const { name, initialCluster, initialClusterToken, initialAdvertisePeerUrls } = a;
  const own = initialCluster.map((one) => ({ name: one.name, peerURLs: one.peerURLs }));
  return (
    JSON.stringify({ name, initialCluster: own, initialClusterToken, initialAdvertisePeerUrls }) === JSON.stringify(b)
  );
}
