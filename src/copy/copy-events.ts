import { signatureProblem } from '../snapshot/inventory.ts';
import type { StoredEvent } from '../store/events.ts';
import type { Places } from './copy-blob.ts';

/** Bytes; an event has some hundred. */
const MAX_EVENT = 64 * 1024;

/**
 * Copies the events that the second place lacks, as they are. Which mark counts depends on what they say, and not on when they
 * were copied.
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
    const found = await first.find(event.name);
    if (found === undefined || found.size > MAX_EVENT) continue;
    const pieces: Buffer[] = [];
    for await (const piece of first.read(event.name, found.etag, found.size)) pieces.push(Buffer.from(piece));
    await second.storeEvent(to, Buffer.concat(pieces), found.metadata);
    count += 1;
  }
  return count;
}
