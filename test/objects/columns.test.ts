import t from 'tap';
import { columnsOf } from '../../src/objects/columns.ts';
import { humanDuration } from '../../src/objects/cells.ts';
import { groupOf } from '../../src/objects/identity.ts';
import { parsePath } from '../../src/objects/json-path.ts';
import { textAt } from '../../src/objects/object-values.ts';
import { columnsInDefinition } from '../../src/objects/printer-columns.ts';
import { recordedColumns } from '../support/object-fixtures.ts';
import { GADGET, GADGETS, NOW, PRINTED } from '../support/printer-columns.ts';

t.test('columns are those that a real API server returned', (t) => {
  const { now, tables } = recordedColumns();
  for (const { object, cells } of tables) {
    const type = { kind: textAt(object, 'kind'), group: groupOf(textAt(object, 'apiVersion')) };
    t.strictSame(
      columnsOf(type).map(({ cell }) => cell(object, now)),
      cells.map(String),
      `${type.kind}: ${cells.join(' | ')}`,
    );
  }
  t.ok(tables.length > 100, String(tables.length));
  t.end();
});

t.test('columns of custom resources are those of their definition', (t) => {
  const columns = columnsInDefinition(GADGETS).get('v1') ?? [];
  t.strictSame(
    columns.map(({ heading, cell }) => [heading, cell(GADGET, NOW)]),
    [['Name', 'one'], ...PRINTED.map(([heading, , , cell]) => [heading, cell])],
  );
  for (const path of ['..size', '.spec[', '.spec.tags[0:2]', 'spec', '.spec.tags[?(@.a<1)]']) {
    t.equal(parsePath(path), undefined, path);
  }
  const plain = columnsInDefinition({ spec: { versions: [{ name: 'v1' }] } }).get('v1');
  t.strictSame(
    plain?.map(({ heading }) => heading),
    ['Name', 'Age'],
  );
  t.end();
});

t.test('durations are rounded as by the API server', (t) => {
  const [minute, hour, day] = [60, 3600, 86_400];
  for (const [seconds, shown] of [
    ...([
      [-2, '<invalid>'],
      [-1, '0s'],
      [119, '119s'],
      [2 * minute, '2m'],
      [200, '3m20s'],
      [10 * minute + 1, '10m'],
    ] as const),
    ...([
      [3 * hour - 1, '179m'],
      [3 * hour, '3h'],
      [5 * hour + minute, '5h1m'],
      [8 * hour + minute, '8h'],
    ] as const),
    ...([
      [2 * day - 1, '47h'],
      [2 * day, '2d'],
      [2 * day + hour, '2d1h'],
      [8 * day + hour, '8d'],
      [729 * day, '729d'],
    ] as const),
    ...([
      [730 * day, '2y'],
      [731 * day, '2y1d'],
      [8 * 365 * day + day, '8y'],
    ] as const),
  ]) {
    t.equal(humanDuration(seconds * 1000), shown);
  }
  t.end();
});
