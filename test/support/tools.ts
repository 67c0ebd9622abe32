import { findEtcd } from './etcd.ts';
import { run } from './process.ts';
import type { Status } from './vectors.ts';

export interface Tool {
  /** Such as `etcd 3.6.16`. */
  readonly name: string;
  /** Total keys are the live ones. */
  readonly is36: boolean;
  /** What `snapshot status` says, or undefined when it refuses the file, in whatever way. */
  status(file: string): Promise<Status | undefined>;
}

/** etcd's own judges of snapshots, one of each version on this machine. */
export function tools(): Tool[] {
  return findEtcd().map(({ version, snapshotTool }) => ({
    name: `etcd ${version}`,
    is36: !/^3\.[45]\./.test(version),
    async status(file) {
      const { code, stdout } = await run(snapshotTool, ['snapshot', 'status', file, '-w', 'json'], {
        ETCDCTL_API: '3',
      });
      return code === 0 ? (JSON.parse(stdout) as Status) : undefined;
    },
  }));
}
