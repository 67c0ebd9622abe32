import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parseJson } from '../../src/objects/json-text.ts';
import { type JsonObject, textAt } from '../../src/objects/object-values.ts';
import { columnsInDefinition } from '../../src/objects/printer-columns.ts';
import { readObject } from '../../src/objects/stored-value.ts';
import { ApiServer, TABLE, type Table } from '../support/api-server.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { without } from '../support/judges.ts';
import { liveValues } from '../support/object-fixtures.ts';
import { GADGET, GADGETS } from '../support/printer-columns.ts';
import { temporaryFolder } from '../support/process.ts';
import { createWidget, kubectl, OBJECTS } from '../support/stored-objects.ts';
import { until } from '../support/until.ts';

const KEY = '/other/example.com/widgets/shop/big';

/** How API servers store custom resources: the first bytes in hex. */
const FORMS = [
  ['JSON', 'kubernetes-node', [], '7b'],
  ['JSON', 'kubernetes-newest', [], '7b'],
  ['CBOR', 'kubernetes-newest', ['--feature-gates=CBORServingAndStorage=true'], 'd9d9f7'],
] as const;

for (const [form, program, flags, mark] of FORMS) {
  t.test(
    `a custom resource that ${program} stores as ${form}, under another prefix`,
    { skip: without(program) },
    async (t) => {
      const dir = temporaryFolder('widgets');
      const tools = findEtcd().at(-1);
      if (tools === undefined) return;
      const etcd = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
      t.teardown(async () => etcd.stop());
      const api = await ApiServer.start(etcd, dir, ['--etcd-prefix=/other', ...flags], program);
      t.teardown(async () => api.stop());
      await kubectl(api, 'apply', '--filename', join(OBJECTS, 'shop.yaml'));
      await createWidget(api);
      await etcd.etcdctl('snapshot', 'save', join(dir, 'snapshot.db'));
      const values = liveValues(readFileSync(join(dir, 'snapshot.db')));
      const stored = values.find(({ key }) => key.toString() === KEY);
      t.ok(stored?.value.toString('hex').startsWith(mark));
      const answer = await api.get('/apis/example.com/v1/namespaces/shop/widgets/big');
      t.strictSame(stored && readObject(stored, []), parseJson(Buffer.from(answer ?? '')));
      t.equal(textAt(parseJson(Buffer.from(answer ?? '')) as JsonObject, 'kind'), 'Widget');
    },
  );
}

t.test('columns of a custom resource', { skip: without('kubernetes-newest') }, async (t) => {
  const dir = temporaryFolder('gadgets');
  const tools = findEtcd().at(-1);
  if (tools === undefined) return;
  const etcd = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
  t.teardown(async () => etcd.stop());
  const api = await ApiServer.start(etcd, dir, [], 'kubernetes-newest');
  t.teardown(async () => api.stop());
  const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
  const defined = await api.send('POST', definitions, JSON.stringify(GADGETS));
  t.equal(defined.status, 201, defined.body);
  const path = '/apis/example.com/v1/namespaces/default/gadgets';
  await until(async () => (await api.send('POST', path, JSON.stringify(GADGET))).status === 201);
  const { columnDefinitions, rows } = JSON.parse((await api.send('GET', path, undefined, TABLE)).body) as Table;
  const columns = columnsInDefinition(GADGETS).get('v1') ?? [];
  t.strictSame(
    columns.map(({ heading, isWide, cell }) => [heading, isWide ? 1 : 0, cell(GADGET, Date.now())]),
    columnDefinitions.map(({ name, priority }, index) => [name, priority, cellText(rows[0]?.cells[index])]),
  );
});

function cellText(cell: unknown): string {
  return typeof cell === 'string' ? cell : JSON.stringify(cell ?? '').replace(/^""$/, '');
}
