import { rmSync } from 'node:fs';
import { join } from 'node:path';
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
  /** What `snapshot status` says of what `snapshot restore --skip-hash-check` makes of it, or undefined likewise. */
  restored(file: string): Promise<Status | undefined>;
}

/** etcd's own judges of snapshots, one of each version on this machine. */
export function tools(): Tool[] {
  return findEtcd().map(({ version, snapshotTool }) => {
    const ask = async (...args: string[]) => run(snapshotTool, ['snapshot', ...args], { ETCDCTL_API: '3' });
    const status = async (file: string): Promise<Status | undefined> => {
      const { code, stdout } = await ask('status', file, '-w', 'json');
      return code === 0 ? (JSON.parse(stdout) as Status) : undefined;
    };
    const restored = async (file: string): Promise<Status | undefined> => {
      const dir = `${file}-${version}`;
      try {
        const { code } = await ask('restore', file, '--skip-hash-check', '--data-dir', dir);
        return code === 0 ? await status(join(dir, 'member', 'snap', 'db')) : undefined;
      } finally {
        rmSync(dir, { recursive: true, force: true });
      }
    };
    return { name: `etcd ${version}`, is36: !/^3\.[45]\./.test(version), status, restored };
  });
}
