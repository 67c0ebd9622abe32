import { type Json, type JsonObject, listAt, textAt, valueAt } from './object-values.ts';

/* What kubectl shows of a Pod: the states of its containers say more than its phase. */

export type Cell = (object: JsonObject) => string;

export const POD_COLUMNS: Readonly<Record<string, Cell>> = { Ready: ready, Status: status, Restarts: restarts };

/** An absent number is 0: the API server omits zeros. */
export function count(object: Json, ...path: readonly string[]): string {
  const value = valueAt(object, ...path);
  return typeof value === 'number' ? String(value) : '0';
}

export function isDeleted(object: JsonObject): boolean {
  return textAt(object, 'metadata', 'deletionTimestamp') !== '';
}

/** The first init container that has not ended well, nor runs on next to the others; undefined where all have. */
function pendingInit(pod: JsonObject): { readonly index: number; readonly container: Json } | undefined {
  const index = initContainers(pod).findIndex((container) => {
    const hasSucceeded = isTerminated(container) && count(container, 'state', 'terminated', 'exitCode') === '0';
    return !hasSucceeded && !(isSidecar(pod, container) && valueAt(container, 'started') === true);
  });
  return index < 0 ? undefined : { index, container: initContainers(pod)[index] ?? null };
}

function isInitialized(pod: JsonObject): boolean {
  const condition = listAt(pod, 'status', 'conditions').find((each) => textAt(each, 'type') === 'Initialized');
  return pendingInit(pod) === undefined || (condition !== undefined && textAt(condition, 'status') === 'True');
}

function ready(pod: JsonObject): string {
  const started = initContainers(pod)
    .slice(0, pendingInit(pod)?.index)
    .filter((each) => isSidecar(pod, each));
  const sidecars = started.filter((each) => !isTerminated(each) && valueAt(each, 'ready') === true);
  const others = isInitialized(pod) ? containers(pod).filter((each) => isRunning(each)) : [];
  const all = listAt(pod, 'spec', 'containers').length + sidecarNames(pod).length;
  return `${sidecars.length + others.length}/${all}`;
}

/** Why a container does not run, or else the phase. */
function status(pod: JsonObject): string {
  const phase = textAt(pod, 'status', 'phase');
  if (isDeleted(pod) && textAt(pod, 'status', 'reason') === 'NodeLost') return 'Unknown';
  if (isDeleted(pod) && !/^(?:Succeeded|Failed)$/.test(phase)) return 'Terminating';
  const pending = pendingInit(pod);
  if (pending !== undefined && !isInitialized(pod)) return initStatus(pod, pending);
  const reason = containers(pod)
    .map(stateOf)
    .find((state) => state !== '');
  if (reason === 'Completed' && containers(pod).some(isRunning)) {
    const condition = listAt(pod, 'status', 'conditions').find((each) => textAt(each, 'type') === 'Ready');
    return textAt(condition, 'status') === 'True' ? 'Running' : 'NotReady';
  }
  return reason ?? (textAt(pod, 'status', 'reason') || phase);
}

function initStatus(
  pod: JsonObject,
  { index, container }: { readonly index: number; readonly container: Json },
): string {
  const state = stateOf(container);
  const isExpected = !isTerminated(container) && (state === '' || state === 'PodInitializing');
  return `Init:${isExpected ? `${index}/${listAt(pod, 'spec', 'initContainers').length}` : state}`;
}

/** Why a container does not run; empty where it does. */
function stateOf(container: Json): string {
  const waiting = textAt(container, 'state', 'waiting', 'reason');
  if (waiting !== '' || !isTerminated(container)) return waiting;
  const signal = count(container, 'state', 'terminated', 'signal');
  const exit = signal === '0' ? `ExitCode:${count(container, 'state', 'terminated', 'exitCode')}` : `Signal:${signal}`;
  return textAt(container, 'state', 'terminated', 'reason') || exit;
}

/** Those of init containers that have ended do not count any more. */
function restarts(pod: JsonObject): string {
  const pending = pendingInit(pod);
  const counted = isInitialized(pod)
    ? [...initContainers(pod).filter((each) => isSidecar(pod, each)), ...containers(pod)]
    : initContainers(pod).slice(0, (pending?.index ?? 0) + 1);
  return String(counted.reduce<number>((sum, each) => sum + Number(count(each, 'restartCount')), 0));
}

function containers(pod: JsonObject): Json[] {
  return listAt(pod, 'status', 'containerStatuses');
}

function initContainers(pod: JsonObject): Json[] {
  return listAt(pod, 'status', 'initContainerStatuses');
}

/** Init containers that run as long as the others. */
function sidecarNames(pod: JsonObject): string[] {
  const sidecars = listAt(pod, 'spec', 'initContainers').filter((each) => textAt(each, 'restartPolicy') === 'Always');
  return sidecars.map((each) => textAt(each, 'name'));
}

function isSidecar(pod: JsonObject, container: Json): boolean {
  return sidecarNames(pod).includes(textAt(container, 'name'));
}

function isTerminated(container: Json): boolean {
  return valueAt(container, 'state', 'terminated') !== undefined;
}

function isRunning(container: Json): boolean {
  return (
    stateOf(container) === '' &&
    valueAt(container, 'ready') === true &&
    valueAt(container, 'state', 'running') !== undefined
  );
}
