import { signatureProblem } from '../snapshot/inventory.ts';
import type { Listing } from '../store/catalogue.ts';
import type { Places } from './copy-blob.ts';

/** Bytes; a mark has some hundred. */
const MAX_MARK = 64 * 1024;

/**
 * Copies the marks that the second place lacks, as they are. Which of them counts depends on what they say, and not on when they
 * were copied.
 * @returns how many
 * @throws StorageError
 */
export async function copyMarks(
  { first, second }: Places,
  marks: Listing['events'],
  there: Listing['events'],
): Promise<number> {
  const names = new Set(there.map(({ name }) => name));
  let count = 0;
  for (const mark of marks) {
    const to = `${second.prefix}${mark.name.slice(first.prefix.length)}`;
    const isTrusted = signatureProblem(mark, second.requiresSignatures) === undefined;
    if (mark.kind !== 'mark' || names.has(to) || !isTrusted) continue;
    const found = await first.find(mark.name);
    if (found === undefined || found.size > MAX_MARK) continue;
    const pieces: Buffer[] = [];
    for await (const piece of first.read(mark.name, found.etag, found.size)) pieces.push(Buffer.from(piece));
    await second.storeEvent(to, Buffer.concat(pieces), found.metadata);
    count += 1;
  }
  return count;
}
