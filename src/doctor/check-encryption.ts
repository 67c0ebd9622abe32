import type { SealingConfig } from '../config/config.ts';
import { ExitCode, WorkerError } from '../errors.ts';
import { encodingOfName, isEncrypted } from '../snapshot/snapshot-name.ts';
import type { SnapshotSource } from '../snapshot/source.ts';
import { isReadable } from '../snapshot/stored-form.ts';
import type { DrillNote } from '../store/drill-notes.ts';
import { counted, humanAge } from '../text.ts';
import { type Check, ok, tried, warn } from './check.ts';

/** For whom new snapshots are encrypted. @param openNewest needs no identity */
export async function checkRecipients(
  config: SealingConfig | undefined,
  openNewest: () => Promise<SnapshotSource>,
): Promise<Check[]> {
  const what = 'recipients';
  return tried(what, async () => {
    if (config === undefined || !isEncrypted(config.encoding)) {
      const newest = await openNewest().catch(ifThereIsOne);
      if (newest?.stored === undefined || !isEncrypted(newest.stored.encoding)) return [];
      return warn(
        what,
        'The newest snapshot is encrypted, but new ones will not be.',
        'Set SNAPSHOT_ENCRYPTION_RECIPIENTS where backups run.',
      );
    }
    const { readRecipients, warningsAbout } = await import('../sealed/recipients.ts');
    const recipients = await readRecipients(config);
    const warnings = (await warningsAbout(recipients, config)).map((warning) => warn(what, ...warning));
    const count = counted(recipients.length, 'recipient');
    return warnings.length > 0 ? warnings : ok(what, `New snapshots are encrypted for ${count}.`);
  });
}

/**
 * Whether the newest snapshot can be opened, if it is encrypted.
 * @param openNewest with the identities at hand
 * @param findDrill the last successful drill of a snapshot whose name is meant
 */
export async function checkOpening(
  openNewest: () => Promise<SnapshotSource>,
  findDrill: (isMeant: (snapshot: string) => boolean) => Promise<DrillNote | undefined>,
  now: Date,
): Promise<Check[]> {
  const what = 'decryption';
  return tried(what, async () => {
    const newest = await openNewest().catch(ifThereIsOne);
    if (newest?.stored === undefined || !isEncrypted(newest.stored.encoding)) return [];
    if (isReadable(newest.stored)) {
      // The first bytes are enough: the header is opened before, and each later chunk has the same key.
      for await (const _ of newest.read()) break;
      return ok(what, 'The identity file opens the newest snapshot.');
    }
    const drill = await findDrill(isOfEncrypted);
    const hint = 'Run `etcd-snapshot drill --identity FILE` where the private key is.';
    if (drill === undefined) {
      return warn(what, 'The newest snapshot is encrypted, and no drill has opened an encrypted one yet.', hint);
    }
    return ok(
      what,
      `A drill opened the encrypted ${drill.snapshot} ${humanAge(now.getTime() - drill.at.getTime())} ago.`,
    );
  });
}

function isOfEncrypted(name: string): boolean {
  const encoding = encodingOfName(name);
  return encoding !== undefined && isEncrypted(encoding);
}

/** Other checks report that there is no snapshot, or no storage. */
function ifThereIsOne(error: unknown): undefined {
  const reported: readonly number[] = [ExitCode.noSuchSnapshot, ExitCode.storage];
  if (error instanceof WorkerError && reported.includes(error.exitCode)) return undefined;
  throw error;
}
