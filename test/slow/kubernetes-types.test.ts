import { join } from 'node:path';
import t, { type Test } from 'tap';
import { columnsOf } from '../../src/objects/columns.ts';
import { groupOf } from '../../src/objects/identity.ts';
import { parseJson } from '../../src/objects/json-text.ts';
import { isObject, type Json, type JsonObject, textAt, valueAt } from '../../src/objects/object-values.ts';
import { readObject } from '../../src/objects/stored-value.ts';
import { ApiServer, keyOf, pathOf, TABLE, type Table } from '../support/api-server.ts';
import { COLUMN_OBJECTS } from '../support/column-objects.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { without } from '../support/judges.ts';
import { type Recorded, recordColumns, withoutNullTimes } from '../support/object-fixtures.ts';
import { temporaryFolder } from '../support/process.ts';
import { objects } from '../tools/objects/make-table.ts';

const tools = findEtcd().at(-1);

/** API servers, and the pins of test/tools/objects with objects of their versions. */
const SERVERS = [
  ['kubernetes-node', 'kubernetes-1.31.mod'],
  ['kubernetes-newest', 'go.mod'],
] as const;

/** What an API server makes of values that it would never store: fields that repeat others, and old annotations. */
const DERIVED: readonly (readonly [kind: RegExp, path: readonly string[]])[] = [
  [/^Namespace$/, ['metadata', 'labels', 'kubernetes.io/metadata.name']],
  [/^Node$/, ['spec', 'podCIDRs']],
  [/^Pod$/, ['status', 'podIPs']],
  [/^Pod$/, ['spec', 'terminationGracePeriodSeconds']],
  [/^Secret$/, ['data']],
  [/^Secret$/, ['stringData']],
  [/^DaemonSet$/, ['metadata', 'annotations', 'deprecated.daemonset.template.generation']],
  [/^HorizontalPodAutoscaler$/, ['metadata', 'annotations']],
  [/^Pod$/, ['spec', 'serviceAccount']],
  [/^PodTemplate$/, ['template', 'spec', 'serviceAccount']],
  [
    /^(?:Deployment|ReplicaSet|StatefulSet|DaemonSet|Job|ReplicationController)$/,
    ['spec', 'template', 'spec', 'serviceAccount'],
  ],
  [/^CronJob$/, ['spec', 'jobTemplate', 'spec', 'template', 'spec', 'serviceAccount']],
];

function withoutDerived(object: Json): Json {
  const copy = structuredClone(withoutNullTimes(object)) as JsonObject;
  for (const [kind, path] of DERIVED) {
    if (!kind.test(textAt(copy, 'kind'))) continue;
    const parent = valueAt(copy, ...path.slice(0, -1));
    if (isObject(parent)) delete parent[path.at(-1) ?? ''];
  }
  return copy;
}

for (const [program, pin] of SERVERS) {
  t.test(
    `${program} reads an object of each type that it serves as this program does`,
    { skip: without(program) },
    async (t) => {
      const dir = temporaryFolder('types');
      if (tools === undefined) return;
      const etcd = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
      t.teardown(async () => etcd.stop());
      const api = await ApiServer.start(etcd, dir, ['--runtime-config=api/all=true'], program);
      t.teardown(async () => api.stop());
      const resources = await api.resources();

      /** Stores a value, and visits it as the API server returns it, if it can. */
      const visit = async (
        line: string,
        compare: (answer: JsonObject, table: Table, read: JsonObject | undefined) => void,
      ): Promise<void> => {
        const { apiVersion, kind, value } = JSON.parse(line) as { apiVersion: string; kind: string; value: string };
        const resource = resources.find((known) => known.groupVersion === apiVersion && known.kind === kind);
        // An invalid definition or service of APIs stops an API server.
        const isStored = !/Review$|^(?:TokenRequest|Binding|ComponentStatus|APIService|CustomResourceDefinition)$/.test(
          kind,
        );
        if (resource === undefined || !isStored) return;
        const key = keyOf(resource, 'objects', 'filled');
        const encoded = Buffer.from(key).toString('base64');
        await etcd.gateway('/v3/kv/put', { key: encoded, value });
        const path = pathOf(resource, 'objects', 'filled');
        // Half of its fields can be too few for the API server, which then ends the connection.
        const ask = async (accept?: string) =>
          api.send('GET', path, undefined, accept).catch(() => ({ status: 0, body: '' }));
        const [{ status, body }, table] = [await ask(), await ask(TABLE)];
        await etcd.gateway('/v3/kv/deleterange', { key: encoded });
        if (status !== 200 || table.status !== 200) return;
        const answer = parseJson(Buffer.from(body)) as JsonObject;
        const modRevision = Number(textAt(answer, 'metadata', 'resourceVersion'));
        const read = readObject({ key: Buffer.from(key), value: Buffer.from(value, 'base64'), modRevision }, []);
        compare(answer, JSON.parse(table.body) as Table, read);
      };

      t.test('all fields set', async (t) => {
        let compared = 0;
        for (const line of objects(pin, 'fill', '1').trim().split('\n')) {
          await visit(line, (answer, table, read) => {
            const name = `${textAt(answer, 'apiVersion')} ${textAt(answer, 'kind')}`;
            t.strictSame(withoutDerived(read ?? null), withoutDerived(answer), name);
            compareColumns(t, program, answer, table, name);
            compared++;
          });
        }
        t.ok(compared >= 60, `${compared} types`);
      });

      t.test('states that show in columns', { skip: program !== 'kubernetes-newest' }, async (t) => {
        const tables: Recorded[] = [];
        for (const object of COLUMN_OBJECTS) {
          const value = Buffer.from(JSON.stringify(object)).toString('base64');
          const { apiVersion, kind } = object;
          await visit(JSON.stringify({ apiVersion, kind, value }), (answer, table) => {
            compareColumns(t, program, answer, table, `${textAt(answer, 'kind')} ${tables.length}`);
            tables.push({ object: answer, cells: table.rows[0]?.cells ?? [] });
          });
        }
        t.equal(tables.length, COLUMN_OBJECTS.length);
        // For test/objects/columns.test.ts.
        if (process.env['RECORD_COLUMNS'] === '1') recordColumns(tables);
      });

      t.test('half of the fields set: the columns', async (t) => {
        for (const seed of ['2', '3', '4']) {
          for (const line of objects(pin, 'fill', seed).trim().split('\n')) {
            await visit(line, (answer, table) => {
              compareColumns(t, program, answer, table, `${textAt(answer, 'kind')} ${seed}`);
            });
          }
        }
      });
    },
  );
}

/** Columns that the older API server does not have, or fills in another way. */
const NEWER = new Set(['Kernel-Version', 'PreemptionPolicy']);

/** Compares all columns of a type that has some of its own; their order as well where the API server is the newest one. */
function compareColumns(t: Test, program: string, object: JsonObject, table: Table, name: string): void {
  const all = columnsOf(typeOf(object));
  if (all.length === 2) return;
  const isNewest = program === 'kubernetes-newest';
  const ours = all.map(({ heading, cell, isWide }) => [heading, isWide, cell(object, Date.now())] as const);
  const theirs = table.columnDefinitions.map(
    ({ name: heading, priority }, index) => [heading, priority === 1, cellText(table.rows[0]?.cells[index])] as const,
  );
  const wanted = ([heading]: (typeof ours)[number]): boolean => !NEWER.has(heading);
  const compared = (cells: typeof ours): typeof ours =>
    isNewest ? cells : cells.filter(wanted).toSorted(([a], [b]) => (a < b ? -1 : 1));
  t.strictSame(compared(ours), compared(theirs), `columns of ${name}`);
}

/** An object without a time of creation, which the API server would not store, has the first one that there is. */
function cellText(cell: unknown): string {
  return String(cell).replace(/^0001-01-01T00:00:00Z$/, '');
}

function typeOf(object: JsonObject): { kind: string; group: string } {
  return { kind: textAt(object, 'kind'), group: groupOf(textAt(object, 'apiVersion')) };
}
