import type { EncryptionKey } from '../bundle/encryption-config.ts';
import { isLater, type KeyEntry } from '../snapshot/keys.ts';
import { IN_ALL, namesInDefinition, SHORT_NAMES, type ServedResource } from './api-answers.ts';
import { columnsOf } from './columns.ts';
import { columnsInDefinition } from './printer-columns.ts';
import { withServedVersion } from './crd-version.ts';
import { groupOf, identityOf, namespaceOfKey } from './identity.ts';
import { type JsonObject, textAt, UnreadableValue } from './object-values.ts';
import { pluralOf } from './selection.ts';
import { decode, plainValue, typeMark } from './stored-value.ts';

/** Objects whose keys are the same up to the last slash: those of one type in one namespace. */
export interface Directory {
  /** Of its keys, with the slash, as a latin1 string. */
  readonly prefix: string;
  /** As the keys say it. */
  readonly namespace: string;
  /** More than one where objects are stored in several versions. */
  readonly types: Set<ObjectType>;
  /** Places in the runs of the snapshot's key pages that have entries of it. */
  readonly runs: number[];
  /** Bytes of the values, older ones included. */
  size: number;
  /** Whether there are values of which no type is known. */
  isUnclear: boolean;
  /** With which values of a known type begin, where the last one did: millions of values are not looked up. */
  mark?: Buffer;
}

interface ObjectType {
  readonly apiVersion: string;
  readonly kind: string;
  readonly group: string;
  /** Undefined as long as no object with a name was seen. */
  isNamespaced: boolean | undefined;
}

type Definition = Pick<KeyEntry, 'main' | 'sub'> & {
  readonly names: ReturnType<typeof namesInDefinition>;
  readonly columns: ReturnType<typeof columnsInDefinition>;
};

/** Where the objects of each type are, found in one pass over a snapshot that decodes few of them. */
export class ObjectIndex {
  readonly #keys: readonly EncryptionKey[];
  readonly #directories = new Map<string, Directory>();
  readonly #types = new Map<string, ObjectType>();
  /** By the first bytes of their values. */
  readonly #known = new Map<string, ObjectType>();
  readonly #definitions = new Map<string, Definition>();

  /** @param keys for encrypted values */
  constructor(keys: readonly EncryptionKey[]) {
    this.#keys = keys;
  }

  /** Of all entries in any order, older ones included. @param run the place of its page in the runs of the key pages */
  visit(entry: KeyEntry, run: number): void {
    const directory = this.#directoryOf(entry.directoryText);
    if (directory.runs.at(-1) !== run) directory.runs.push(run);
    if (entry.isTombstone) return;
    directory.size += entry.valueSize;
    const { mark } = directory;
    if (mark !== undefined && entry.valueStartsWith(mark)) return;
    try {
      const type = this.#typeOf(entry);
      if (type === undefined) directory.isUnclear = true;
      else directory.types.add(type);
      const found = typeMark(entry.value);
      if (this.#knownBy(found) !== undefined) directory.mark = Buffer.from(found ?? '', 'latin1');
    } catch (error) {
      if (!(error instanceof UnreadableValue)) throw error;
      directory.isUnclear = true;
    }
  }

  /** In the order of their keys. */
  directories(): Directory[] {
    return [...this.#directories.values()].toSorted((a, b) => (a.prefix < b.prefix ? -1 : 1));
  }

  resources(): ServedResource[] {
    const names = new Map(
      [...this.#definitions.values()].map(({ names: [type, found], columns }) => [type, { ...found, columns }]),
    );
    return [...this.#types.values(), ...this.#builtInWithoutObjects()].flatMap((type) => {
      const { apiVersion, kind, group, isNamespaced } = type;
      if (isNamespaced === undefined) return [];
      const defined = names.get(`${kind} ${group}`);
      const plural = defined?.plural ?? pluralOf(kind);
      const short = Object.hasOwn(SHORT_NAMES, plural) ? SHORT_NAMES[plural] : undefined;
      const shortNames = defined?.shortNames ?? (short === undefined ? [] : [short]);
      const categories = defined?.categories ?? (IN_ALL.has(plural) ? ['all'] : []);
      const columns = defined?.columns.get(apiVersion.slice(group.length + 1)) ?? columnsOf({ kind, group });
      return [{ apiVersion, kind, plural, isNamespaced, shortNames, categories, columns }];
    });
  }

  #builtInWithoutObjects(): ObjectType[] {
    const types = [...this.#types.values()];
    return BUILT_IN.filter(
      ({ kind, group }) =>
        !types.some((type) => type.kind === kind && (type.group === group || type.group === FORMER_GROUP)),
    );
  }

  #directoryOf(prefix: string): Directory {
    let directory = this.#directories.get(prefix);
    if (directory === undefined) {
      const namespace = namespaceOfKey(prefix);
      directory = { prefix, namespace, types: new Set(), runs: [], size: 0, isUnclear: false };
      this.#directories.set(prefix, directory);
    }
    return directory;
  }

  /** Undefined where it is no object of Kubernetes. @throws UnreadableValue */
  #typeOf(entry: KeyEntry): ObjectType | undefined {
    const seen = this.#knownBy(typeMark(entry.value));
    if (seen !== undefined) return seen;
    const value = plainValue(entry, this.#keys);
    const mark = typeMark(value);
    const known = this.#knownBy(mark);
    if (known !== undefined) return known;
    const stored = decode(value);
    if (stored === undefined) return undefined;
    const object = withServedVersion(stored);
    const type = this.#typeIn(object);
    if (mark !== undefined) this.#known.set(mark, type);
    const identity = identityOf(object);
    if (identity !== undefined) type.isNamespaced ??= identity.namespace !== '';
    if (type.kind === DEFINITION) this.#define(entry, object);
    return type;
  }

  /** A type of which nothing more is to be found in its objects. */
  #knownBy(mark: string | undefined): ObjectType | undefined {
    const type = mark === undefined ? undefined : this.#known.get(mark);
    return type?.isNamespaced === undefined || type.kind === DEFINITION ? undefined : type;
  }

  #typeIn(object: JsonObject): ObjectType {
    const [apiVersion, kind] = [textAt(object, 'apiVersion'), textAt(object, 'kind')];
    const name = `${apiVersion} ${kind}`;
    const type = this.#types.get(name) ?? { apiVersion, kind, group: groupOf(apiVersion), isNamespaced: undefined };
    this.#types.set(name, type);
    return type;
  }

  #define({ keyText: key, main, sub }: KeyEntry, definition: JsonObject): void {
    if (!isLater({ main, sub }, this.#definitions.get(key))) return;
    const [names, columns] = [namesInDefinition(definition), columnsInDefinition(definition)];
    this.#definitions.set(key, { main, sub, names, columns });
  }
}

const DEFINITION = 'CustomResourceDefinition';

/** Of Deployment, DaemonSet, ReplicaSet and Ingress; old objects can still be stored in it. */
const FORMER_GROUP = 'extensions';

/** Types that a cluster has even without an object of them: kubectl must not say that they do not exist. */
const BUILT_IN: readonly ObjectType[] = [
  ...builtIn('v1', true, ['Pod', 'ReplicationController', 'Service', 'Event', 'ConfigMap', 'Secret']),
  ...builtIn('v1', true, ['PersistentVolumeClaim', 'ServiceAccount']),
  ...builtIn('v1', false, ['Namespace', 'Node', 'PersistentVolume']),
  ...builtIn('apps/v1', true, ['DaemonSet', 'Deployment', 'ReplicaSet', 'StatefulSet', 'ControllerRevision']),
  ...builtIn('autoscaling/v2', true, ['HorizontalPodAutoscaler']),
  ...builtIn('batch/v1', true, ['CronJob', 'Job']),
  ...builtIn('networking.k8s.io/v1', true, ['Ingress']),
];

function builtIn(apiVersion: string, isNamespaced: boolean, kinds: readonly string[]): ObjectType[] {
  return kinds.map((kind) => ({ apiVersion, kind, group: groupOf(apiVersion), isNamespaced }));
}
