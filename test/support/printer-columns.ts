import type { JsonObject } from '../../src/objects/object-values.ts';

/** Columns of a custom resource: name, type, path, and the cell at `NOW`. */
export const PRINTED = [
  ['Size', 'integer', '.spec.size', '3'],
  ['Half', 'integer', '.spec.ratio', '2'],
  ['Ratio', 'number', '.spec.ratio', '2.5'],
  ['On', 'boolean', '.spec.on', 'true'],
  ['Off', 'boolean', '.spec.size', ''],
  ['Ready', 'string', '.status.conditions[?(@.type=="Ready")].status', 'True'],
  ['Other', 'string', ".status.conditions[?(@.type != 'Ready')].status", 'False'],
  ['Reason', 'string', '.status.conditions[?(@.reason)].reason', 'Why'],
  ['First', 'string', '.spec.tags[0]', 'a'],
  ['Last', 'string', '.spec.tags[-1]', 'c'],
  ['Beyond', 'string', '.spec.tags[7]', ''],
  ['Any', 'string', '.spec.tags[*]', 'a'],
  ['List', 'string', '.spec.tags', '["a","b","c"]'],
  ['Label', 'string', String.raw`.metadata.labels.example\.com/team`, 'red'],
  ['Quoted', 'string', String.raw`.metadata.labels['example\.com/team']`, 'red'],
  ['Dots', 'string', ".metadata.labels['example.com/team']", ''],
  ['Number', 'string', '.spec.size', '3'],
  ['Missing', 'string', '.spec.none.deeper', ''],
  ['Since', 'date', '.spec.since', '2y1d'],
  ['Never', 'date', '.spec.tags[0]', '<invalid>'],
] as const;

export const NOW = Date.parse('2022-01-02T03:04:05Z');

export const GADGETS: JsonObject = {
  ...{ apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition' },
  metadata: { name: 'gadgets.example.com' },
  spec: {
    ...{ group: 'example.com', scope: 'Namespaced', names: { kind: 'Gadget', plural: 'gadgets' } },
    versions: [
      {
        ...{ name: 'v1', served: true, storage: true },
        schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
        additionalPrinterColumns: PRINTED.map(([name, type, jsonPath], index) => {
          const priority = index % 2;
          return { name, type, jsonPath, priority };
        }),
      },
    ],
  },
};

export const GADGET: JsonObject = {
  ...{ apiVersion: 'example.com/v1', kind: 'Gadget' },
  metadata: { name: 'one', namespace: 'default', labels: { 'example.com/team': 'red' } },
  spec: { size: 3, ratio: 2.5, on: true, tags: ['a', 'b', 'c'], since: '2020-01-02T03:04:05Z' },
  status: {
    conditions: [
      { type: 'Ready', status: 'True' },
      { type: 'Stalled', status: 'False', reason: 'Why' },
    ],
  },
};
