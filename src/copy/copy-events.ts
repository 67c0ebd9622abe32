import { signatureProblem } from '../snapshot/inventory.ts';
import type { StoredEvent } from '../store/events.ts';
import type { Places } from './copy-blob.ts';

/**
 * Copies the events that the second place lacks. Everything that counts is in their metadata, which was listed: their content is
 * for people, and cannot be read in the archive tier. Which mark counts depends on what they say, and not on when they were
 * copied.
 * @returns how many
 * @throws StorageError
 */
export async function copyEvents(
  { first, second }: Places,
  events: readonly StoredEvent[],
  there: readonly StoredEvent[],
): Promise<number> {
  const names = new Set(there.map(({ name }) => name));
  let count = 0;
  for (const event of events) {
    const to = `${second.prefix}${event.name.slice(first.prefix.length)}`;
    const isTrusted = signatureProblem(event, second.requiresSignatures) === undefined;
    if (names.has(to) || !isTrusted) continue;
    const { fields } = event;
    if (!canBeMetadata(fields)) continue;
    await second.storeEvent(to, Buffer.from(`${JSON.stringify(fields)}\n`), fields);
    count += 1;
  }
  return count;
}

/** Those of this program are ASCII; a header cannot have all other characters. */
function canBeMetadata(fields: StoredEvent['fields']): fields is Readonly<Record<string, string>> {
  return Object.values(fields).every((value) => typeof value === 'string' && /^[\x20-\x7e]*$/.test(value));
}
