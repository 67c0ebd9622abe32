import type { SealingConfig } from '../config/config.ts';
import { UsageError } from '../errors.ts';
import { readNamed } from '../files.ts';
import type { Warnings } from '../log.ts';
import { fingerprintOf, generateIdentity, type Identity, isPostQuantum, isRecipient } from './age-header.ts';

/** Fingerprints of so many fit into a value of the record. */
const MAX_RECIPIENTS = 25;

/** For whom a run encrypts. */
export interface Recipients {
  /** Those of the configuration, and the run's own. */
  readonly all: readonly string[];
  /** Of those of the configuration. */
  readonly fingerprints: readonly string[];
  /** A key pair that only this run has: with it, it can read what it stored, and nothing else. */
  readonly own: Identity;
}

/** @throws UsageError when a recipient is invalid, or there is none */
export async function prepareRecipients(config: SealingConfig, warnings: Warnings): Promise<Recipients> {
  const configured = await readRecipients(config);
  for (const warning of warningsAbout(configured)) warnings.add(...warning);
  // The weakest recipient decides.
  const own = await generateIdentity(configured.every(isPostQuantum) ? 'post-quantum' : 'x25519');
  return { all: [...configured, own.recipient], fingerprints: configured.map(fingerprintOf), own };
}

/** What the operator should know about valid recipients, with hints. */
export function warningsAbout(recipients: readonly string[]): (readonly [sentence: string, hint: string])[] {
  const count = recipients.filter(isPostQuantum).length;
  const single = [
    'Snapshots are encrypted for one recipient only: if its key is lost, none of them can be opened.',
    'Add a second recipient to SNAPSHOT_ENCRYPTION_RECIPIENTS, and keep its key elsewhere.',
  ] as const;
  const mixed = [
    'Only some recipients are post-quantum: the others decide how well snapshots are protected.',
    'Use only recipients that begin with age1pq1, or none.',
  ] as const;
  return [...(recipients.length === 1 ? [single] : []), ...(count > 0 && count < recipients.length ? [mixed] : [])];
}

/** Those of the configuration. @throws UsageError when one is invalid, or there is none */
export async function readRecipients({
  recipients = '',
  recipientsFrom = 'SNAPSHOT_ENCRYPTION_RECIPIENTS',
  recipientsFile,
}: SealingConfig): Promise<string[]> {
  const inFile = recipientsFile === undefined ? '' : await readFile(recipientsFile);
  const found = [
    ...recipients.split(/[\s,]+/).map((text) => ({ text, from: recipientsFrom })),
    ...inFile.split('\n').map((line) => ({ text: line.trim(), from: 'SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE' })),
  ].filter(({ text }) => text !== '' && !text.startsWith('#'));
  const invalid = found.find(({ text }) => !isRecipient(text));
  if (invalid !== undefined) throw invalidRecipient(invalid.from, invalid.text);
  const unique = [...new Set(found.map(({ text }) => text))];
  if (unique.length > 0 && unique.length <= MAX_RECIPIENTS) return unique;
  const variable =
    found[0]?.from ?? (recipientsFile === undefined ? recipientsFrom : 'SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE');
  const problem = unique.length === 0 ? 'contains no recipient' : `contains more than ${MAX_RECIPIENTS} recipients`;
  throw new UsageError(
    `${variable} ${problem}.`,
    'Write one recipient per line, as `age-keygen -y` prints it. Nothing was done.',
  );
}

async function readFile(path: string): Promise<string> {
  const hint = 'Check SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE and the permissions of the file.';
  return (await readNamed(path, 'file with recipients', hint)).toString();
}

/** The text itself is not shown: it can be a private key. */
function invalidRecipient(variable: string, text: string): UsageError {
  const what = text.startsWith('AGE-SECRET-KEY-')
    ? 'a private key instead of a recipient'
    : 'an entry that is not a recipient of age, or has a typing error';
  return new UsageError(
    `${variable} contains ${what}.`,
    'Give recipients that begin with age1, as `age-keygen -y KEYFILE` prints them. Nothing was done.',
  );
}
