import { UsageError } from '../errors.ts';
import type { Identity } from '../sealed/age-header.ts';
import { printable } from '../text.ts';
import type { Seal } from './record.ts';
import { type Encoding, isCompressed, isEncrypted } from './snapshot-name.ts';

/** How a sealed snapshot is stored: its bytes are not those of the snapshot's file. */
export interface StoredForm {
  readonly encoding: Encoding;
  /** Bytes. */
  readonly size: number;
  /** As its record says; undefined for a file of this machine. */
  readonly sha256: string | undefined;
  /** Fingerprints, of an encrypted one, as its record says. */
  readonly recipients: readonly string[];
  /** Undefined where none are known: then only the stored bytes of an encrypted one can be read. */
  readonly identities: readonly Identity[] | undefined;
  /** The stored bytes from this one on. */
  read(from?: number): AsyncIterable<Buffer>;
}

/** What makes a source of a sealed snapshot. */
interface Opened {
  readonly size: number;
  readonly stored: StoredForm;
  /** It is compressed or encrypted as a whole. */
  readonly readPlaces: undefined;
  read(from?: number): AsyncIterable<Buffer>;
}

/** @param size of the snapshot's file: more bytes are an error */
export function open(name: string, stored: StoredForm, size: number): Opened {
  return { size, stored, readPlaces: undefined, read: (from) => openedBytes(name, stored, size, from) };
}

/** A sealed snapshot can only be opened from its beginning. Only a sealed one loads the code for it. */
export async function* openedBytes(
  name: string,
  stored: StoredForm,
  size?: number,
  from = 0,
): AsyncGenerator<Buffer, void, void> {
  const { encoding, sha256: storedSha256, identities = [] } = stored;
  assertReadable(name, stored);
  const { unseal } = await import('../sealed/unseal.ts');
  let passed = 0;
  for await (const piece of unseal(stored.read(), { name, encoding, size, storedSha256, identities })) {
    const skipped = Math.min(piece.length, Math.max(0, from - passed));
    passed += piece.length;
    if (skipped < piece.length) yield piece.subarray(skipped);
  }
}

/** Whether its content can be read, and not only its stored bytes. */
export function isReadable(stored: StoredForm | undefined): boolean {
  return stored === undefined || !isEncrypted(stored.encoding) || stored.identities !== undefined;
}

/** @throws UsageError when the content of a snapshot cannot be read */
export function assertReadable(name: string, stored: StoredForm | undefined): void {
  if (stored === undefined || isReadable(stored)) return;
  throw new UsageError(
    `${printable(name)} is encrypted${forWhom(stored.recipients)}, and no identity was given.`,
    'Give the file with a private key of age: --identity FILE, or SNAPSHOT_ENCRYPTION_IDENTITY_FILE.',
  );
}

/** @throws UsageError when its record says that it is encrypted for others */
export function assertOpens(identities: readonly Identity[], name: string, { recipients }: StoredForm): void {
  const own = identities.map(({ fingerprint }) => fingerprint);
  if (recipients.length === 0 || recipients.some((fingerprint) => own.includes(fingerprint))) return;
  throw new UsageError(
    `${printable(name)} is encrypted${forWhom(recipients)}, and the identity file has ${own.join(', ')}.`,
    'Give the identity file of one of its recipients with --identity.',
  );
}

function forWhom(recipients: readonly string[]): string {
  return recipients.length === 0 ? '' : ` for ${recipients.join(', ')}`;
}

/** As a record describes it. */
export function storedFormOf({ encoding, storedSha256, recipients }: Seal): Omit<StoredForm, 'size' | 'read'> {
  return { encoding, sha256: storedSha256, recipients, identities: undefined };
}

/** What results say of a sealed snapshot as JSON; nothing of others. */
export function storedJson(stored: StoredForm | undefined): object {
  if (stored === undefined) return {};
  const { encoding, size, sha256, recipients } = stored;
  return { encoding, storedSize: size, storedSha256: sha256, ...(recipients.length > 0 && { recipients }) };
}

/** How a snapshot is stored, in words that follow "it is". */
export function encodingText(encoding: Encoding | undefined): string {
  if (encoding === undefined) return 'not sealed';
  const words = [
    ...(isCompressed(encoding) ? ['compressed with zstd'] : []),
    ...(isEncrypted(encoding) ? ['encrypted with age'] : []),
  ];
  return words.join(' and ');
}
