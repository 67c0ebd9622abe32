import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

const FOLDER = join(import.meta.dirname, '..', 'fixtures', 'restored-clusters');

export interface ListedMember {
  readonly id: string;
  readonly name: string;
  readonly peerURLs: readonly string[];
  readonly isLearner: boolean;
}

/** A snapshot of a cluster that was restored before. */
export interface RestoredCluster {
  /** Such as `3.5.35-one`. */
  readonly name: string;
  readonly version: string;
  readonly bytes: Buffer;
  /** As `etcdctl member list` said. */
  readonly members: readonly ListedMember[];
}

export function restoredClusters(): RestoredCluster[] {
  const names = readdirSync(FOLDER).flatMap((file) => /^(.+)\.snap\.gz$/.exec(file)?.[1] ?? []);
  return names.map((name) => ({
    name,
    version: name.split('-')[0] ?? '',
    bytes: gunzipSync(readFileSync(join(FOLDER, `${name}.snap.gz`))),
    members: parseMemberList(readFileSync(join(FOLDER, `${name}.members`), 'utf8')),
  }));
}

/** Reads what `etcdctl member list` prints. */
export function parseMemberList(text: string): ListedMember[] {
  const lines = text.trim().split('\n');
  return lines
    .map((line) => line.split(', '))
    .map(([id = '', , name = '', peer = '', , isLearner]) => {
      return { id, name, peerURLs: peer.split(','), isLearner: isLearner === 'true' };
    });
}
