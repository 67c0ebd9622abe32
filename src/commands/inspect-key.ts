import { ExitCode, UsageError, WorkerError } from '../errors.ts';
import { Warnings } from '../log.ts';
import { isLater, type KeyEntry, KeyScanner } from '../snapshot/keys.ts';
import { passBytes } from '../snapshot/passes.ts';
import type { SnapshotSource } from '../snapshot/source.ts';
import type { SnapshotFacts } from '../snapshot/verify/verdict.ts';
import { printable } from '../text.ts';
import type { Arguments, Context, Outcome } from './command.ts';
import { findKnownKeys } from './known-keys.ts';

type Format = 'yaml' | 'json' | 'raw';

/** The format of -o. @throws UsageError for one that is not known, or is given without --get */
export function valueFormat({ output, get, json }: Arguments['options']): Format {
  if (typeof output !== 'string') return 'raw';
  if (output !== 'yaml' && output !== 'json' && output !== 'raw') {
    throw new UsageError(`-o ${printable(output)} is not a format.`, 'Use yaml, json or raw.');
  }
  if (get === undefined)
    throw new UsageError(
      '-o is the format of one value, or of the objects of two snapshots.',
      'Give its key with --get, or --objects.',
    );
  if (json !== true || output === 'raw') return output;
  throw new UsageError(`--json and -o ${output} cannot be combined.`, 'Omit --json.');
}

/** Shows the value of one key: as it is stored, or as the API server returns the object in it. */
export async function showValue(
  context: Context,
  { source, facts }: { readonly source: SnapshotSource; readonly facts: SnapshotFacts },
  key: string,
  options: Arguments['options'],
): Promise<Outcome> {
  const format = valueFormat(options);
  const found = await findValue(context, source, facts, key);
  const { value, main: modRevision } = found;
  if (format === 'raw') return { text: value, json: { key, value: value.toString('base64') } };
  const known = await findKnownKeys(context, source, options, new Warnings(context.log), { resources: 'all' });
  const { readObject } = await import('../objects/stored-value.ts');
  const { UnreadableValue } = await import('../objects/object-values.ts');
  try {
    const object = readObject({ key: found.key, value, modRevision }, known?.keys ?? []);
    if (object === undefined) {
      throw new UsageError(
        `The value of ${printable(key)} is not an object of Kubernetes.`,
        'Use -o raw to see it as it is stored.',
      );
    }
    const { jsonText } = await import('../objects/json-text.ts');
    const { yamlText } = await import('../objects/yaml-text.ts');
    return { text: Buffer.from(format === 'yaml' ? yamlText(object) : `${jsonText(object)}\n`), json: {} };
  } catch (error) {
    if (!(error instanceof UnreadableValue)) throw error;
    throw new WorkerError(
      ExitCode.incomplete,
      `The value of ${printable(key)} ${error.message}.`,
      known === undefined
        ? 'If it is encrypted, give --encryption-config FILE. -o raw writes it as it is stored.'
        : 'Use -o raw to write it as it is stored.',
      error,
    );
  }
}

type Found = Pick<KeyEntry, 'key' | 'value' | 'main'>;

async function findValue(
  context: Context,
  source: SnapshotSource,
  { keyPages }: SnapshotFacts,
  key: string,
): Promise<Found> {
  const wanted = Buffer.from(key);
  let last = undefined as (Found & Pick<KeyEntry, 'sub' | 'isTombstone'>) | undefined;
  const scanner = new KeyScanner(keyPages, (entry) => {
    const { key: found, main, sub, isTombstone, value } = entry;
    if (found.equals(wanted) && isLater(entry, last))
      last = { key: wanted, main, sub, isTombstone, value: Buffer.from(value) };
  });
  await passBytes(source, `reading the keys of ${source.name}`, context, scanner);
  if (last?.isTombstone === false) return last;
  throw new WorkerError(
    ExitCode.noSuchSnapshot,
    `There is no key ${printable(key)} in ${source.name}.`,
    'List the keys with --keys PREFIX.',
  );
}
