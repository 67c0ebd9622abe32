import type { ServedResource } from '../objects/api-answers.ts';
import type { Catalogue, ListedObject, Place } from '../objects/browse-requests.ts';
import { directoryOf, groupOf, identityOf } from '../objects/identity.ts';
import { type LiveValues, MAX_KEPT } from '../objects/live-values.ts';
import { type Directory, ObjectIndex } from '../objects/object-index.ts';
import { type JsonObject, UnreadableValue } from '../objects/object-values.ts';
import type { Selection } from '../objects/selection.ts';
import { readObject, type StoredValue } from '../objects/stored-value.ts';
import { KeyScanner, someOf } from '../snapshot/keys.ts';
import { passBytes } from '../snapshot/passes.ts';
import type { KeyPages } from '../snapshot/verify/verdict.ts';
import { printable } from '../text.ts';
import type { Context } from './command.ts';
import { findLive, incompleteness, type ObjectSource, prefixOf, readObjects } from './read-objects.ts';

/** Bytes of values that are read at once, and kept: the ones before are still in memory while they are read. */
const MAX_WINDOW = MAX_KEPT / 2;

/** Values of a directory that follow one another in the order of their keys. */
interface Window {
  /** Place of the first one in the directory. */
  readonly first: number;
  readonly values: readonly StoredValue[];
  /** How many values the directory has. */
  readonly count: number;
}

/** The objects of a snapshot for requests. Those that were read last are kept in memory, the others are in the snapshot. */
export class BrowsedObjects implements Catalogue {
  readonly resources: readonly ServedResource[];
  readonly resourceVersion: string;
  readonly takenAt: number;
  readonly #context: Context;
  readonly #source: ObjectSource;
  readonly #directories: readonly Directory[];
  /** The one that was used last is the last one. */
  readonly #kept = new Map<Directory, Window>();
  /** Keys of values that lists have skipped. */
  readonly #logged = new Set<string>();
  /** One request after the other reads the snapshot, because each needs memory. */
  #reading: Promise<unknown> = Promise.resolve();

  private constructor(context: Context, source: ObjectSource, index: ObjectIndex) {
    this.#context = context;
    this.#source = source;
    this.#directories = index.directories();
    this.resources = index.resources();
    this.resourceVersion = String(source.facts.revision);
    this.takenAt = source.source.takenAt.getTime();
  }

  /** Finds where the objects are. Values whose type is not known are logged. */
  static async open(context: Context, source: ObjectSource, selection: Selection): Promise<BrowsedObjects> {
    const index = new ObjectIndex(source.keys);
    const { etcdPrefix } = selection;
    // The text of a key takes long to make of millions of keys.
    const isUnderPrefix = etcdPrefix === '' ? undefined : (key: string): boolean => key.startsWith(etcdPrefix);
    const scanner = new KeyScanner(source.facts.keyPages, (entry, run) => index.visit(entry, run), isUnderPrefix);
    await passBytes(source.source, `reading the keys of ${source.source.name}`, context, scanner);
    const objects = new BrowsedObjects(context, source, index);
    await objects.#logUnclear(selection);
    return objects;
  }

  async *list(resource: ServedResource, namespace: string | undefined, from: Place): AsyncGenerator<ListedObject> {
    const directories = this.#directoriesOf(resource, namespace);
    const hasPrefixes = new Set(directories.map(({ prefix }) => prefixOf(prefix))).size > 1;
    const names = new Set<string>();
    for (let number = from.directory; number < directories.length; number++) {
      const directory = directories[number]!;
      const others = namespace === undefined ? directories.slice(number + 1) : this.#directoriesIn(namespace);
      for (let at = number === from.directory ? from.value : 0; ; at++) {
        const { first, values, count } = await this.#windowAt(directory, at, others);
        if (at >= count) break;
        const found = this.#readable(values[at - first], resource, namespace);
        if (found === undefined) continue;
        const name = `${found.identity.namespace}/${found.identity.name}`;
        if (names.has(name))
          this.#logOnce(values[at - first], 'has the same object as another one: give --etcd-prefix');
        else yield { ...found, place: { directory: number, value: at } };
        if (hasPrefixes) names.add(name);
      }
    }
  }

  async find(resource: ServedResource, namespace: string, name: string): Promise<JsonObject | undefined> {
    const where = resource.isNamespaced ? namespace : undefined;
    let unreadable: UnreadableValue | undefined;
    for (const directory of this.#directoriesOf(resource, where)) {
      const key = directory.prefix + Buffer.from(name).toString('latin1');
      const values =
        directory.size > MAX_WINDOW
          ? (await this.#findLive([directory], (one) => one === key)).values()
          : (await this.#windowAt(directory, 0, this.#directoriesIn(namespace))).values;
      const value = [...values].find((each) => each.key.toString('latin1') === key);
      try {
        const found = this.#read(value, resource, where);
        if (found?.identity.name === name) return found.object;
      } catch (error) {
        if (value === undefined || !(error instanceof UnreadableValue)) throw error;
        this.#context.log.warn(`cannot read the value of ${printable(value.key.toString())}: it ${error.message}`);
        unreadable ??= error;
      }
    }
    if (unreadable !== undefined) throw unreadable;
    return undefined;
  }

  /**
   * Of a type in all versions: an API server that stores a newer one leaves the objects that exist as they are. Where no value can
   * be read, the keys say what their type is.
   */
  #directoriesOf({ apiVersion, kind, plural, isNamespaced }: ServedResource, namespace?: string): Directory[] {
    const group = groupOf(apiVersion);
    return this.#directories.filter((directory) => {
      if (namespace !== undefined && directory.namespace !== namespace) return false;
      if (directory.types.size > 0)
        return [...directory.types].some((type) => type.group === group && type.kind === kind);
      return directory.prefix.endsWith(isNamespaced ? `/${plural}/${directory.namespace}/` : `/${plural}/`);
    });
  }

  #directoriesIn(namespace: string): Directory[] {
    return this.#directories.filter((directory) => directory.namespace === namespace && directory.types.size > 0);
  }

  /** The object in a value; undefined where there is none of the type and the namespace. @throws UnreadableValue */
  #read(
    value: StoredValue | undefined,
    { apiVersion, kind }: ServedResource,
    namespace: string | undefined,
  ): Omit<ListedObject, 'place'> | undefined {
    if (value === undefined) return undefined;
    const object = readObject(value, this.#source.keys);
    if (object === undefined) throw new UnreadableValue('is not an object of Kubernetes');
    const identity = identityOf(object);
    if (identity?.group !== groupOf(apiVersion) || identity.kind !== kind) return undefined;
    return namespace === undefined || identity.namespace === namespace ? { object, identity } : undefined;
  }

  /** The same for a list, which goes on without what cannot be read. */
  #readable(
    value: StoredValue | undefined,
    resource: ServedResource,
    namespace: string | undefined,
  ): Omit<ListedObject, 'place'> | undefined {
    try {
      return this.#read(value, resource, namespace);
    } catch (error) {
      if (!(error instanceof UnreadableValue)) throw error;
      this.#logOnce(value, error.message);
      return undefined;
    }
  }

  /** @param problem the end of a sentence about the value */
  #logOnce(value: StoredValue | undefined, problem: string): void {
    const key = value?.key.toString() ?? '';
    if (!this.#logged.has(key)) this.#context.log.warn(`skipped the value of ${printable(key)}: it ${problem}`);
    this.#logged.add(key);
  }

  /** @param others that are likely to be asked for next: they are read as well, as far as there is memory */
  async #windowAt(directory: Directory, at: number, others: readonly Directory[]): Promise<Window> {
    const kept = this.#kept.get(directory);
    if (kept !== undefined && isIn(kept, at)) return this.#keep(directory, kept);
    const reading = this.#reading.then(async () => this.#readWindow(directory, at, others));
    this.#reading = reading.catch(() => {});
    return reading;
  }

  async #readWindow(directory: Directory, at: number, others: readonly Directory[]): Promise<Window> {
    const before = this.#kept.get(directory);
    if (before !== undefined && isIn(before, at)) return before;
    this.#kept.delete(directory);
    const group = [directory];
    let { size } = directory;
    for (const other of others) {
      if (other === directory || this.#kept.has(other) || size + other.size > MAX_WINDOW) continue;
      group.push(other);
      size += other.size;
    }
    this.#makeRoom(size);
    const live = await this.#findLive(group);
    if (!live.isComplete) return this.#keep(directory, await this.#partOf(directory, at, live));
    const found = Map.groupBy(live.values(), ({ key }) => directoryOf(key.toString('latin1')));
    for (const each of group.toReversed()) {
      const values = found.get(each.prefix) ?? [];
      this.#keep(each, { first: 0, values, count: values.length });
    }
    return this.#kept.get(directory)!;
  }

  /** Of a directory whose values are too large to be kept. */
  async #partOf(directory: Directory, at: number, live: LiveValues): Promise<Window> {
    const keys = live.keys();
    const wanted = new Set<string>();
    let size = 0;
    for (const { key, size: more } of keys.slice(at)) {
      if ((size += more) > MAX_WINDOW && wanted.size > 0) break;
      wanted.add(key);
    }
    const part = await this.#findLive([directory], (key) => wanted.has(key));
    return { first: at, values: [...part.values()], count: keys.length };
  }

  #keep(directory: Directory, window: Window): Window {
    this.#kept.delete(directory);
    this.#kept.set(directory, window);
    return window;
  }

  /** @param size of what is read next, in bytes */
  #makeRoom(size: number): void {
    let used = size;
    for (const [directory] of [...this.#kept].toReversed()) {
      used += directory.size;
      if (used > MAX_WINDOW) this.#kept.delete(directory);
    }
  }

  async #findLive(directories: readonly Directory[], wants?: (key: string) => boolean): Promise<LiveValues> {
    const { source } = this.#source;
    return findLive(this.#context, source, this.#pagesOf(directories), wants ?? hasKeyIn(directories));
  }

  #pagesOf(directories: readonly Directory[]): KeyPages {
    return someOf(this.#source.facts.keyPages, new Set(directories.flatMap(({ runs }) => runs)));
  }

  async #logUnclear(selection: Selection): Promise<void> {
    const unclear = this.#directories.filter(({ isUnclear }) => isUnclear);
    if (unclear.length === 0) return;
    const facts = { ...this.#source.facts, keyPages: this.#pagesOf(unclear) };
    const source = { ...this.#source, facts };
    const unreadable = await readObjects(this.#context, source, selection, () => {}, hasKeyIn(unclear));
    incompleteness(this.#context, unreadable);
  }
}

function isIn({ first, values, count }: Window, at: number): boolean {
  return at >= count || (at >= first && at < first + values.length);
}

/** Whether a key is in one of some directories. */
function hasKeyIn(directories: readonly Directory[]): (key: string) => boolean {
  const prefixes = new Set(directories.map(({ prefix }) => prefix));
  return (key) => prefixes.has(directoryOf(key));
}
