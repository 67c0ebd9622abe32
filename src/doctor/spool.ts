import type { Config } from '../config.ts';
import { messageOf } from '../errors.ts';
import { DEFAULT_RESERVE, SpoolFile } from '../spool/file.ts';
import { humanSize } from '../text.ts';
import { type Check, ok, warn } from './check.ts';

/** Whether a snapshot of so many bytes could be spilled to the spool's directory. */
export async function checkSpool(
  { spoolDir: dir, spoolReserve: reserve = DEFAULT_RESERVE }: Pick<Config, 'spoolDir' | 'spoolReserve'>,
  bytes: number,
): Promise<Check> {
  const what = 'spool';
  if (dir === undefined) return ok(what, 'SNAPSHOT_SPOOL_DIR is not set: where the uplink is slow, etcd waits for it.');
  try {
    const file = await SpoolFile.create({ dir, reserve, bytes, maxRecord: 1 });
    await file.close();
    return ok(what, `${dir} has room for a snapshot of ${humanSize(bytes)}.`);
  } catch (error) {
    const sentence = `${dir} cannot be used as a spool: ${messageOf(error)}.`;
    return warn(
      what,
      sentence,
      'Where the uplink is slow, etcd waits for it: give SNAPSHOT_SPOOL_DIR room for a snapshot.',
    );
  }
}
