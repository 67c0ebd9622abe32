import { UsageError } from '../errors.ts';
import { type Member, title } from '../member.ts';
import { assertAgrees, membersToRestore, namesVoters } from '../restore/initial-members.ts';
import { providerText, SecretCounter, type SecretCount } from '../snapshot/encrypted-secrets.ts';
import { countResources, type KeyEntry, KeyScanner, type LiveKey, LiveKeys } from '../snapshot/keys.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import { signatureText } from '../snapshot/signature-state.ts';
import { bundleName } from '../snapshot/snapshot-name.ts';
import { passBytes } from '../snapshot/passes.ts';
import type { SnapshotSource } from '../snapshot/source.ts';
import { encodingText, storedJson } from '../snapshot/stored-form.ts';
import type { SnapshotFacts } from '../snapshot/verify/verdict.ts';
import { alignColumns, humanSize, paint, printable, statusTable } from '../text.ts';
import type { Arguments, Context, Outcome } from './command.ts';
import { showValue, valueFormat } from './inspect-key.ts';
import { openNamedOrNewest, readVerified } from './snapshot-operand.ts';

/** How many of the largest keys are shown. */
const LARGEST = 10;

/**
 * Shows the content of a snapshot, to help decide which one to restore. It is verified first; then its keys are read in a second
 * pass. Values are never shown, except that of one key requested by its exact name.
 */
export async function inspect(context: Context, { operands, options }: Arguments): Promise<Outcome> {
  const [first, second] = operands;
  const { keys: prefix, get } = options;
  if (options['objects'] === true) {
    if ((prefix ?? get) !== undefined) {
      throw new UsageError('--objects cannot be combined with --keys and --get.', 'Give only one of them.');
    }
    const { inspectObjects } = await import('./inspect-objects.ts');
    return inspectObjects(context, { operands, options });
  }
  const unused = ['namespace', 'kind', 'etcd-prefix', 'show-secrets'].find((name) => options[name] !== undefined);
  if (unused !== undefined) throw new UsageError(`--${unused} needs --objects.`, 'Add --objects.');
  if ([second, prefix, get].filter((wanted) => wanted !== undefined).length > 1) {
    const hint = 'Give only one of them. To filter the comparison of two snapshots, use grep.';
    throw new UsageError('A second snapshot, --keys and --get cannot be combined.', hint);
  }
  if (get === '') throw new UsageError('--get is empty, and etcd has no empty key.', 'Give the name of a key.');
  valueFormat(options);
  const source = await openNamedOrNewest(context, first, options);
  const facts = await readVerified(context, source);
  if (second !== undefined) {
    const other = await openNamedOrNewest(context, second, options);
    const before = await liveKeys(context, source, facts);
    return showDifference(before, await liveKeys(context, other, await readVerified(context, other)));
  }
  if (typeof get === 'string') return await showValue(context, { source, facts }, get, options);
  if (typeof prefix === 'string') {
    return showKeys(await liveKeys(context, source, facts), Buffer.from(prefix).toString('latin1'));
  }
  const secrets = new SecretCounter();
  const keys = await liveKeys(context, source, facts, secrets);
  return describe(source, facts, keys, secrets.counts());
}

async function scan(
  context: Context,
  source: SnapshotSource,
  { keyPages }: SnapshotFacts,
  visit: (entry: KeyEntry) => void,
): Promise<void> {
  await passBytes(source, `reading the keys of ${source.name}`, context, new KeyScanner(keyPages, visit));
}

async function liveKeys(
  context: Context,
  source: SnapshotSource,
  facts: SnapshotFacts,
  secrets?: SecretCounter,
): Promise<LiveKey[]> {
  const keys = new LiveKeys();
  await scan(context, source, facts, (found) => {
    keys.visit(found);
    secrets?.visit(found);
  });
  return keys.sorted();
}

function showKeys(keys: readonly LiveKey[], prefix: string): Outcome {
  const asked = keys.filter(({ key }) => key.startsWith(prefix));
  return { text: asked.map(({ key }) => printable(keyText(key))).join('\n'), json: asked.map(entry) };
}

function showDifference(before: readonly LiveKey[], after: readonly LiveKey[]): Outcome {
  const earlier = new Map(before.map((live) => [live.key, live]));
  const later = new Set(after.map(({ key }) => key));
  const added = after.filter(({ key }) => !earlier.has(key));
  const removed = before.filter(({ key }) => !later.has(key));
  const changed = after.filter(({ key, crc, size }) => {
    const old = earlier.get(key);
    return old !== undefined && (old.crc !== crc || old.size !== size);
  });
  const counts = `${added.length} added, ${removed.length} removed, ${changed.length} changed`;
  return {
    text: [...marked('+', added), ...marked('-', removed), ...marked('~', changed), counts].join('\n'),
    json: { added: added.map(entry), removed: removed.map(entry), changed: changed.map(entry) },
  };
}

function marked(mark: string, keys: readonly LiveKey[]): string[] {
  return keys.map(({ key }) => `${mark} ${printable(keyText(key))}`);
}

function describe(
  source: SnapshotSource,
  facts: SnapshotFacts,
  keys: readonly LiveKey[],
  secrets: readonly SecretCount[],
): Outcome {
  const { name, record, signature, size, stored, skipHashCheck } = source;
  const { alarms, authEnabled, clusterVersion, storageVersion, compaction, sha256 } = facts;
  const { hash, revision, effectiveRevision, totalKeys, liveKeys: live, totalSize } = facts;
  const { members, warnings } = membersOf(record, facts);
  const resources = countResources(keys);
  const largest = keys.toSorted((a, b) => b.size - a.size).slice(0, LARGEST);
  const origin =
    record === undefined
      ? 'no record: its time and its cluster are unknown'
      : `taken ${record.takenAt.toISOString()} of cluster ${record.clusterId}, etcd ${record.etcdVersion ?? 'of an unknown version'}${record.imported === undefined ? '' : `, imported from ${record.imported}`}`;
  const memberRows = members.map((member) => {
    return [member.id, member.name, member.isLearner ? 'learner' : 'voter', member.peerURLs.join(',')];
  });
  const resourceRows = resources.map((resource) => [resource.name, String(resource.keys), humanSize(resource.bytes)]);
  const secretRows = secrets.map((secret) => [
    String(secret.count),
    secret.provider === 'identity' ? 'none' : providerText(secret),
    secret.keyName || '-',
  ]);
  const largestRows = largest.map((key) => [humanSize(key.size), keyText(key.key)]);
  const lines = [
    printable(name),
    printable(origin),
    ...(signature === undefined || signature.state === 'unsigned' ? [] : [signatureText(signature)]),
    ...(stored === undefined ? [] : [`${encodingText(stored.encoding)}, ${humanSize(stored.size)}`]),
    ...(record?.bundleSha256 === undefined ? [] : [`the keys of that time: ${printable(bundleName(name))}`]),
    ...(skipHashCheck ? ['its sha256 was not checked: a changed byte of a value cannot be detected'] : []),
    `cluster version ${printable(clusterVersion ?? 'unknown')}, authentication ${authEnabled ? 'on' : 'off'}`,
    ...alarms.map(({ memberId, alarm }) => `alarm ${alarm} of member ${memberId}`),
    ...(compaction.scheduled === compaction.finished ? [] : ['taken during a compaction']),
    statusTable(facts),
    '\nmembers:',
    alignColumns(['ID', 'NAME', 'ROLE', 'PEER URLS'], memberRows),
    ...warnings.map((warning) => `warning: ${printable(warning)}`),
    '\nlive keys by resource:',
    alignColumns(['RESOURCE', 'KEYS', 'SIZE'], resourceRows, ['KEYS', 'SIZE']),
    ...(secrets.length === 0
      ? []
      : [
          '\nSecrets by how they are encrypted:',
          alignColumns(['SECRETS', 'PROVIDER', 'KEY'], secretRows, ['SECRETS']),
        ]),
    '\nlargest values:',
    alignColumns(['SIZE', 'KEY'], largestRows, ['SIZE']),
    `\n${paint('green', `${printable(name)} is valid${skipHashCheck ? '; its sha256 was not checked' : ''}.`)}`,
  ];
  const json = {
    ...{
      name,
      size,
      ...storedJson(stored),
      sha256,
      hashChecked: !skipHashCheck,
      hash,
      revision,
      effectiveRevision,
      totalKeys,
    },
    ...{ liveKeys: live, totalSize, clusterVersion, storageVersion, compaction, authEnabled, alarms },
    ...{ members, warnings, record: record ?? null, signature: signature ?? null },
    ...{ resources, secrets, largest: largest.map(entry) },
  };
  return { text: lines.join('\n'), json };
}

/** The members as the record has them, which are those of the running cluster; else as the file lists them. */
function membersOf(
  record: SnapshotRecord | undefined,
  facts: SnapshotFacts,
): { readonly members: readonly Member[]; readonly warnings: readonly string[] } {
  const usesRecord = record !== undefined && namesVoters(record);
  const inFile = new Map(facts.members.map((member) => [member.id, member]));
  const members = (usesRecord ? record : facts).members.map(({ id, name, peerURLs, isLearner }) => {
    const { name: nameInFile = '', clientURLs = [] } = inFile.get(id) ?? {};
    return { id, name: name || nameInFile, peerURLs, clientURLs, isLearner };
  });
  const others = facts.members.filter(({ id }) => !members.some((member) => member.id === id));
  const warnings =
    others.length === 0
      ? []
      : [`The file lists members that were not in the cluster at that time: ${others.map(title).join(', ')}.`];
  try {
    if (usesRecord) assertAgrees(record, facts);
    membersToRestore(usesRecord ? record : facts);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    warnings.push(error.message);
  }
  return { members, warnings };
}

function entry({ key, modRevision, version, size }: LiveKey): object {
  return { key: keyText(key), modRevision, version, size };
}

/** Keys are any bytes. */
function keyText(latin1: string): string {
  return Buffer.from(latin1, 'latin1').toString();
}
