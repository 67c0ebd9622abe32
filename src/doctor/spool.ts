import { messageOf } from '../errors.ts';
import { SpoolFile } from '../spool/file.ts';
import { humanSize } from '../text.ts';
import { type Check, ok, warn } from './check.ts';

/** Whether a snapshot of so many bytes could be spilled to this directory. */
export async function checkSpool(dir: string | undefined, bytes: number): Promise<Check> {
  const what = 'spool';
  if (dir === undefined) return ok(what, 'SNAPSHOT_SPOOL_DIR is not set: where the uplink is slow, etcd waits for it.');
  try {
    const file = await SpoolFile.create(dir, bytes, 1);
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
