import { ago, type Cells, condition, count, hasCondition, isDeleted, orNone, text } from './cells.ts';
import { type Json, type JsonObject, listAt, textAt, valueAt } from './object-values.ts';

/* What kubectl shows of a Pod: the states of its containers say more than its phase. */

export const POD_COLUMNS: Cells = { Ready: ready, Status: status, Restarts: restarts };

export const WIDE_POD_COLUMNS: Cells = {
  IP: orNone((pod) => textAt(listAt(pod, 'status', 'podIPs')[0], 'ip') || textAt(pod, 'status', 'podIP')),
  Node: orNone(text('spec', 'nodeName')),
  'Nominated Node': orNone(text('status', 'nominatedNodeName')),
  'Readiness Gates': orNone(readinessGates),
};

/** The first init container that has not ended well, nor runs on next to the others; undefined where all have. */
function pendingInit(pod: JsonObject): { readonly index: number; readonly container: Json } | undefined {
  const index = initContainers(pod).findIndex((container) => {
    return !hasSucceeded(container) && !(isSidecar(pod, container) && valueAt(container, 'started') === true);
  });
  return index < 0 ? undefined : { index, container: initContainers(pod)[index] ?? null };
}

function isInitialized(pod: JsonObject): boolean {
  return pendingInit(pod) === undefined || hasCondition(pod, 'Initialized');
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
  const before = pending === undefined ? reasonOf(pod) : initStatus(pod, pending);
  const reason = isInitialized(pod) ? containers(pod).map(stateOf).find(Boolean) : undefined;
  if (reason !== 'Completed') return reason ?? before;
  const isAnyRunning = containers(pod).some(isRunning);
  if (isAnyRunning && hasCondition(pod, 'Ready')) return 'Running';
  const failed = containers(pod).find((each) => isTerminated(each) && !hasSucceeded(each));
  if (failed !== undefined) return stateOf(failed);
  return isAnyRunning ? 'NotReady' : reason;
}

/** Of a Pod whose containers do not say more. */
function reasonOf(pod: JsonObject): string {
  const gated = 'SchedulingGated';
  if (textAt(condition(pod, 'PodScheduled'), 'reason') === gated) return gated;
  return textAt(pod, 'status', 'reason') || textAt(pod, 'status', 'phase');
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
function restarts(pod: JsonObject, now: number): string {
  const pending = pendingInit(pod);
  const counted = isInitialized(pod)
    ? [...initContainers(pod).filter((each) => isSidecar(pod, each)), ...containers(pod)]
    : initContainers(pod).slice(0, (pending?.index ?? 0) + 1);
  const sum = counted.reduce<number>((total, each) => total + Number(count(each, 'restartCount')), 0);
  const last =
    counted
      .map((each) => textAt(each, 'lastState', 'terminated', 'finishedAt'))
      .toSorted()
      .at(-1) ?? '';
  return sum === 0 || last === '' ? String(sum) : `${sum} (${ago(last, now)} ago)`;
}

function readinessGates(pod: JsonObject): string {
  const gates = listAt(pod, 'spec', 'readinessGates').map((gate) => textAt(gate, 'conditionType'));
  return gates.length === 0 ? '' : `${gates.filter((type) => hasCondition(pod, type)).length}/${gates.length}`;
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

function hasSucceeded(container: Json): boolean {
  return isTerminated(container) && count(container, 'state', 'terminated', 'exitCode') === '0';
}

function isRunning(container: Json): boolean {
  return (
    stateOf(container) === '' &&
    valueAt(container, 'ready') === true &&
    valueAt(container, 'state', 'running') !== undefined
  );
}
