import { isObject, type Json, type JsonObject, listAt, textAt, valueAt } from './object-values.ts';

/** An object that `kubectl apply` creates again in any cluster. */
export interface CleanObject {
  readonly object: JsonObject;
  /** For the file. */
  readonly comments: readonly string[];
  /** For the operator: ends of sentences about the object. */
  readonly warnings: readonly string[];
}

/** Fields of metadata that the API server sets. */
const OF_SERVER = [
  ...['uid', 'resourceVersion', 'generation', 'creationTimestamp', 'managedFields', 'selfLink'],
  ...['deletionTimestamp', 'deletionGracePeriodSeconds'],
];

const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

/** Set by the scheduler, with the name of a node of that cluster. */
const SELECTED_NODE = 'volume.kubernetes.io/selected-node';

/** Labels that a Job's controller makes of its uid. */
const OF_JOB = ['controller-uid', 'batch.kubernetes.io/controller-uid'];

/** Whether an object cannot be created again: a token of a service account is bound to its uid. */
export function isBoundToken(object: JsonObject): boolean {
  return object['kind'] === 'Secret' && object['type'] === 'kubernetes.io/service-account-token';
}

/** Removes what the API server and its controllers have set. */
export function cleaned(stored: JsonObject): CleanObject {
  const { status: _, ...object } = stored;
  const owners = listAt(stored, 'metadata', 'ownerReferences').map(
    (owner) => `${textAt(owner, 'kind')} ${textAt(owner, 'name')}`,
  );
  const finalizers = listAt(stored, 'metadata', 'finalizers').map(String);
  const metadata = without(stored['metadata'], ...OF_SERVER, 'ownerReferences', 'finalizers');
  const kind = textAt(stored, 'kind');
  const clean = (Object.hasOwn(BY_KIND, kind) ? BY_KIND[kind] : undefined) ?? ((value: JsonObject) => value);
  return {
    object: withoutEmptyMaps(clean({ ...object, metadata })),
    // A stale uid makes the garbage collector delete the object.
    comments: owners.length === 0 ? [] : [`It belonged to ${owners.join(', ')}.`],
    warnings: finalizers.length === 0 ? [] : [`has no finalizers any more: ${finalizers.join(', ')}`],
  };
}

const BY_KIND: Readonly<Record<string, (object: JsonObject) => JsonObject>> = {
  Service: (object) => changed(object, ['spec'], cleanService),
  PersistentVolumeClaim: (object) =>
    changed(
      changed(object, ['spec'], (spec) => without(spec, 'volumeName')),
      ['metadata', 'annotations'],
      (annotations) => filtered(annotations, (name) => !name.startsWith('pv.kubernetes.io/') && name !== SELECTED_NODE),
    ),
  PersistentVolume: (object) =>
    changed(object, ['spec', 'claimRef'], (claim) => without(claim, 'uid', 'resourceVersion')),
  Pod: (object) => changed(object, ['spec'], (spec) => without(spec, 'nodeName')),
  Job: cleanJob,
  Secret: (object) => changed(object, ['metadata', 'annotations'], (annotations) => without(annotations, LAST_APPLIED)),
};

/** Its addresses can be in use by another one, or be of another network. */
function cleanService(spec: JsonObject): JsonObject {
  const isHeadless = spec['clusterIP'] === 'None';
  const kept = without(spec, 'clusterIP', 'clusterIPs', 'ipFamilies');
  return isHeadless ? { ...kept, clusterIP: 'None' } : kept;
}

function cleanJob(object: JsonObject): JsonObject {
  if (valueAt(object, 'spec', 'manualSelector') === true) return object;
  const ofLabels = (labels: JsonObject): JsonObject => without(labels, ...OF_JOB);
  const isGenerated = OF_JOB.some((name) => valueAt(object, 'spec', 'selector', 'matchLabels', name) !== undefined);
  return changed(
    changed(
      changed(object, ['spec'], (spec) => (isGenerated ? without(spec, 'selector') : spec)),
      ['spec', 'template', 'metadata', 'labels'],
      ofLabels,
    ),
    ['metadata', 'labels'],
    ofLabels,
  );
}

/** With another object at a path, if there is one. */
function changed(object: JsonObject, path: readonly string[], change: (value: JsonObject) => JsonObject): JsonObject {
  const [name, ...rest] = path;
  if (name === undefined) return change(object);
  const inner = valueAt(object, name);
  return isObject(inner) ? { ...object, [name]: changed(inner, rest, change) } : object;
}

function without(value: Json | undefined, ...names: readonly string[]): JsonObject {
  return isObject(value) ? filtered(value, (name) => !names.includes(name)) : {};
}

function filtered(value: JsonObject, keeps: (name: string) => boolean): JsonObject {
  return Object.fromEntries(Object.entries(value).filter(([name]) => keeps(name)));
}

/** Labels and annotations of which nothing is left. */
function withoutEmptyMaps(object: JsonObject): JsonObject {
  return changed(object, ['metadata'], (metadata) =>
    Object.fromEntries(
      Object.entries(metadata).filter(
        ([name, value]) => !/^(?:labels|annotations)$/.test(name) || !isObject(value) || Object.keys(value).length > 0,
      ),
    ),
  );
}
