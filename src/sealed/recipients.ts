import type { SealingConfig } from '../config/config.ts';
import { UsageError } from '../errors.ts';
import { readNamed, warningAboutWriters } from '../files.ts';
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
  for (const warning of await warningsAbout(configured, config)) warnings.add(...warning);
  // The weakest recipient decides.
  const own = await generateIdentity(configured.every(isPostQuantum) ? 'post-quantum' : 'x25519');
  return { all: [...configured, own.recipient], fingerprints: configured.map(fingerprintOf), own };
}

/** What the operator should know about valid recipients, with hints. */
export async function warningsAbout(
  recipients: readonly string[],
  { recipientsFrom: from = 'SNAPSHOT_ENCRYPTION_RECIPIENTS', recipientsFile: file }: SealingConfig,
): Promise<(readonly [sentence: string, hint: string])[]> {
  const count = recipients.filter(isPostQuantum).length;
  const single = [
    'Snapshots are encrypted for one recipient only: if its key is lost, none of them can be opened.',
    `Add a second recipient to ${from}, and keep its key elsewhere.`,
  ] as const;
  const mixed = [
    'Only some recipients are post-quantum: the others decide how well snapshots are protected.',
    'Use only recipients that begin with age1pq1, or none.',
  ] as const;
  return [
    ...(recipients.length === 1 ? [single] : []),
    ...(count > 0 && count < recipients.length ? [mixed] : []),
    ...(file === undefined ? [] : await warningAboutWriters(file, 'recipients')),
  ];
}

/** Those of the configuration. @throws UsageError when one is invalid, or there is none */
export async function readRecipients({
  recipients = '',
  recipientsFrom = 'SNAPSHOT_ENCRYPTION_RECIPIENTS',
  recipientsFile,
}: SealingConfig): Promise<string[]> {
  const inFile = recipientsFile === undefined ? '' : await readFile(recipientsFile);
  const ofFile = 'SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE';
  const found = [
    ...recipients.split(/[\s,]+/).map((text) => ({ text, from: recipientsFrom, where: '' })),
    ...inFile.split('\n').map((line, i) => ({ text: line.trim(), from: ofFile, where: ` in line ${i + 1}` })),
  ].filter(({ text }) => text !== '' && !text.startsWith('#'));
  const invalid = found.find(({ text }) => !isRecipient(text));
  if (invalid !== undefined) throw invalidRecipient(invalid);
  const unique = [...new Set(found.map(({ text }) => text))];
  if (unique.length > 0 && unique.length <= MAX_RECIPIENTS) return unique;
  const variable = found[0]?.from ?? (recipientsFile === undefined ? recipientsFrom : ofFile);
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
function invalidRecipient({ text, from, where }: Record<'text' | 'from' | 'where', string>): UsageError {
  const isOption = from.startsWith('--');
  const what = text.startsWith('AGE-SECRET-KEY-')
    ? 'a private key instead of a recipient'
    : /^(ssh-|age1(tag|yubikey|se1))/.test(text)
      ? 'a recipient of a kind that is not supported'
      : text.includes('/') && isOption
        ? 'a path instead of a recipient'
        : 'an entry that is not a recipient of age, or has a typing error';
  const hint = isOption ? 'To read them from a file, use --recipients "$(cat FILE)". ' : '';
  return new UsageError(
    `${from} contains ${what}${where}.`,
    `Give recipients that begin with age1, as \`age-keygen -y KEYFILE\` prints them. ${hint}Nothing was done.`,
  );
}
