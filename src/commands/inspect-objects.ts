import { createHash } from 'node:crypto';
import { UsageError } from '../errors.ts';
import { type Column, columnsOf } from '../objects/columns.ts';
import { HeldYaml } from '../objects/held-yaml.ts';
import { jsonText } from '../objects/json-text.ts';
import { type Identity, pathName, typeName } from '../objects/identity.ts';
import { differingLines } from '../objects/line-difference.ts';
import { isObject, type JsonObject, textAt } from '../objects/object-values.ts';
import { withoutSecrets } from '../objects/secret-values.ts';
import { type Selection, selectionOf } from '../objects/selection.ts';
import { yamlText } from '../objects/yaml-text.ts';
import { alignColumns, counted, paint, printable } from '../text.ts';
import type { Arguments, Context, Outcome } from './command.ts';
import { incompleteness, type ObjectSource, openObjects, readObjects, type Unreadable } from './read-objects.ts';

interface Row {
  readonly identity: Identity;
  readonly created: string;
  /** Of the columns of its type, without its name. */
  readonly cells: readonly string[];
}

/** Lists the objects of a snapshot, or shows which ones differ between two. */
export async function inspectObjects(context: Context, { operands, options }: Arguments): Promise<Outcome> {
  const [first, second] = operands;
  const selection = selectionOf(options);
  if (first !== undefined && second !== undefined) return compare(context, [first, second], options, selection);
  const { output } = options;
  const isWide = output === 'wide';
  if (output !== undefined && !isWide) {
    throw new UsageError(
      '-o needs a key or two snapshots.',
      'To write objects as YAML, use: etcd-snapshot extract; for more columns, use -o wide.',
    );
  }
  const opened = await openObjects(context, first, options);
  const now = opened.source.takenAt.getTime();
  const rows: Row[] = [];
  const unreadable = await readObjects(context, opened, selection, ({ identity, object }) => {
    const cells = shownOf(identity, isWide).map(({ cell }) => cell(object, now));
    rows.push({ identity, created: textAt(object, 'metadata', 'creationTimestamp'), cells });
  });
  rows.sort((a, b) => (pathName(a.identity) < pathName(b.identity) ? -1 : 1));
  return withFailure(context, unreadable, {
    text: tablesOf(rows, isWide).join('\n\n'),
    json: {
      objects: rows.map(({ identity, created }) => Object.assign({}, identity, { creationTimestamp: created || null })),
      unreadable,
    },
    summary: counted(rows.length, 'object'),
  });
}

/** One table for each type, as `kubectl get` prints it for several. */
function tablesOf(rows: readonly Row[], isWide: boolean): string[] {
  const types = Map.groupBy(rows, ({ identity }) => typeName(identity));
  return [...types.values()].map((ofType) => {
    const columns = ofType[0] === undefined ? [] : shownOf(ofType[0].identity, isWide);
    const cells = ofType.map(({ identity, cells: own }) => [
      identity.namespace || '-',
      `${typeName(identity)}/${identity.name}`,
      ...own,
    ]);
    return alignColumns(['NAMESPACE', 'NAME', ...columns.map(({ heading }) => heading.toUpperCase())], cells);
  });
}

/** The columns of a type besides the name, which is the first one here. */
function shownOf(identity: Identity, isWide: boolean): Column[] {
  return columnsOf(identity).filter((column) => column.heading !== 'Name' && (isWide || !column.isWide));
}

/** An object of a snapshot, to compare it with another one. */
interface Compared {
  readonly identity: Identity;
  readonly digest: string;
}

async function compare(
  context: Context,
  operands: readonly [string, string],
  options: Arguments['options'],
  selection: Selection,
): Promise<Outcome> {
  const { output } = options;
  if (typeof output === 'string' && output !== 'diff') {
    throw new UsageError(`-o ${printable(output)} is not a format of differences.`, 'Use -o diff.');
  }
  const sources: ObjectSource[] = [];
  for (const operand of operands) sources.push(await openObjects(context, operand, options));
  const unreadable: Unreadable[] = [];
  const [before, after] = [new Map<string, Compared>(), new Map<string, Compared>()];
  for (const [index, found] of [before, after].entries()) {
    unreadable.push(
      ...(await readObjects(context, sources[index] as ObjectSource, selection, ({ identity, object }) => {
        const digest = createHash('sha256')
          .update(jsonText(comparable(object)))
          .digest('hex');
        found.set(pathName(identity), { identity, digest });
      })),
    );
  }
  const added = [...after.keys()].filter((name) => !before.has(name)).toSorted();
  const removed = [...before.keys()].filter((name) => !after.has(name)).toSorted();
  const changed = [...after.keys()]
    .filter((name) => before.has(name) && before.get(name)?.digest !== after.get(name)?.digest)
    .toSorted();
  const isShown = options['show-secrets'] === true;
  const lines =
    output === 'diff'
      ? await differences(context, sources, [...added, ...removed, ...changed], selection, isShown)
      : undefined;
  const counts = `${added.length} added, ${removed.length} removed, ${changed.length} changed`;
  const json = (names: readonly string[], from: ReadonlyMap<string, Compared>) =>
    names.map((name) => from.get(name)?.identity);
  return withFailure(context, unreadable, {
    text: [...(lines ?? [...marked('+', added), ...marked('-', removed), ...marked('~', changed)]), counts].join('\n'),
    json: { added: json(added, after), removed: json(removed, before), changed: json(changed, after), unreadable },
    summary: counts,
  });
}

/** The lines that differ, object by object. Both snapshots are read again: only what differs is kept. */
async function differences(
  context: Context,
  sources: readonly ObjectSource[],
  names: readonly string[],
  selection: Selection,
  showsSecrets: boolean,
): Promise<string[]> {
  const wanted = new Set(names);
  const texts: Map<string, string>[] = [];
  const held = new HeldYaml('The objects that differ', 'compared line by line in memory', 'Omit -o diff');
  for (const source of sources) {
    const found = new Map<string, string>();
    await readObjects(context, source, selection, ({ identity, object }) => {
      const name = pathName(identity);
      if (!wanted.has(name)) return;
      const text = yamlText(comparable(showsSecrets ? object : withoutSecrets(object))).trimEnd();
      held.add(text);
      found.set(name, text);
    });
    texts.push(found);
  }
  const [before, after] = texts;
  return names.toSorted().flatMap((name) => {
    const [old, current] = [before?.get(name) ?? '', after?.get(name) ?? ''];
    const lines = old === '' || current === '' ? oneSided(old, current) : differingLines(old, current);
    return [`=== ${printable(name)}`, lines.map(coloured).join('\n'), ''];
  });
}

function oneSided(old: string, current: string): string[] {
  return current === '' ? old.split('\n').map((line) => `-${line}`) : current.split('\n').map((line) => `+${line}`);
}

function coloured(line: string): string {
  return paint(line.startsWith('-') ? 'red' : line.startsWith('+') ? 'green' : undefined, printable(line));
}

/** Without what every write changes. */
function comparable(object: JsonObject): JsonObject {
  const { metadata } = object;
  if (!isObject(metadata)) return object;
  const { resourceVersion: _, managedFields: __, ...rest } = metadata;
  return { ...object, metadata: rest };
}

function marked(mark: string, names: readonly string[]): string[] {
  return names.map((name) => `${mark} ${printable(name)}`);
}

function withFailure(context: Context, unreadable: readonly Unreadable[], outcome: Outcome): Outcome {
  const partialFailure = incompleteness(context, unreadable);
  return partialFailure === undefined ? outcome : { ...outcome, partialFailure };
}
