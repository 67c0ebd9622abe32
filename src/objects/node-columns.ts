import { type Cell, type Cells, condition, or, orNone, scalar, text } from './cells.ts';
import { isObject, type JsonObject, listAt, textAt, valueAt } from './object-values.ts';

/* What kubectl shows of a Node. */

export const NODE_CELLS: Cells = { Status: nodeStatus, Roles: orNone(roles) };

/** After the age. */
export const LAST_NODE_CELLS: Cells = { Version: text('status', 'nodeInfo', 'kubeletVersion') };

export const WIDE_NODE_CELLS: Cells = {
  'Internal-IP': orNone(address('InternalIP')),
  'External-IP': orNone(address('ExternalIP')),
  'OS-Image': or('<unknown>', text('status', 'nodeInfo', 'osImage')),
  'Kernel-Version': kernel,
  'Container-Runtime': or('<unknown>', text('status', 'nodeInfo', 'containerRuntimeVersion')),
};

function nodeStatus(node: JsonObject): string {
  const found = condition(node, 'Ready');
  const state = found === undefined ? 'Unknown' : textAt(found, 'status') === 'True' ? 'Ready' : 'NotReady';
  return valueAt(node, 'spec', 'unschedulable') === true ? `${state},SchedulingDisabled` : state;
}

const ROLE = 'node-role.kubernetes.io/';

function roles(node: JsonObject): string {
  const all = valueAt(node, 'metadata', 'labels');
  const names = Object.entries(isObject(all) ? all : {}).map(([label, value]) =>
    label === 'kubernetes.io/role' ? scalar(value) : label.startsWith(ROLE) ? label.slice(ROLE.length) : '',
  );
  return [...new Set(names.filter((name) => name !== ''))].toSorted().join(',');
}

function address(type: string): Cell {
  return (node) => {
    const found = listAt(node, 'status', 'addresses').find((each) => textAt(each, 'type') === type);
    return textAt(found, 'address');
  };
}

function kernel(node: JsonObject): string {
  const architecture = textAt(node, 'status', 'nodeInfo', 'architecture');
  const version = textAt(node, 'status', 'nodeInfo', 'kernelVersion') || '<unknown>';
  return architecture === '' ? version : `${version} (${architecture})`;
}
