import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { encryptionKeysIn } from '../../src/bundle/encryption-config.ts';
import { parseJson } from '../../src/objects/json-text.ts';
import { isObject, type Json, type JsonObject, textAt } from '../../src/objects/object-values.ts';
import { type ApiServer, apiPath, TABLE, type Table } from '../support/api-server.ts';
import { startBrowse } from '../support/browse-server.ts';
import { findJudge } from '../support/judges.ts';
import { withoutNullTimes } from '../support/object-fixtures.ts';
import { mustRun, temporaryFolder } from '../support/process.ts';
import { allObjects, encryptionConfig, kubectl, startWithObjects } from '../support/stored-objects.ts';
import { until } from '../support/until.ts';
import { MAIN, runWorker } from '../support/worker.ts';

const skip =
  findJudge('kubernetes-node') === undefined && 'there is no kubernetes-node here (test/tools/build-kubernetes.sh)';
const keys = encryptionKeysIn(encryptionConfig('identity')) ?? [];

t.test('a deleted namespace comes back with kubectl, and stays', { skip }, async (t) => {
  const dir = temporaryFolder('namespace');
  const { etcd, api } = await startWithObjects(dir);
  t.teardown(async () => {
    await api.stop();
    await etcd.stop();
  });
  const objectsOfShop = async (): Promise<Map<string, JsonObject>> => {
    const all = (await allObjects(api)).map((text) => parseJson(Buffer.from(text)) as JsonObject);
    const mine = all.filter((object) =>
      [textAt(object, 'metadata', 'namespace'), textAt(object, 'metadata', 'name')].includes('shop'),
    );
    return new Map(mine.map((object) => [`${textAt(object, 'kind')} ${textAt(object, 'metadata', 'name')}`, object]));
  };
  const before = await objectsOfShop();
  const file = join(dir, 'snapshot.db');
  await etcd.etcdctl('snapshot', 'save', file);
  const config = join(dir, 'config.json');
  writeFileSync(config, encryptionConfig('identity'));

  for (const text of await allObjects(api)) {
    const answer = parseJson(Buffer.from(text)) as JsonObject;
    if (textAt(answer, 'metadata', 'namespace') !== 'default' || answer['kind'] !== 'Secret') continue;
    const key = `/registry/secrets/default/${textAt(answer, 'metadata', 'name')}`;
    const shown = await mustRun(process.execPath, [
      MAIN,
      'inspect',
      file,
      '--get',
      key,
      '-o',
      'json',
      '--encryption-config',
      config,
    ]);
    t.strictSame(parseJson(Buffer.from(shown)), answer, key);
  }
  t.equal(keys.length, 4);

  await compareTables(t, api, [file, '--encryption-config', config]);

  const target = join(dir, 'shop');
  const extracted = await runWorker(['extract', file, '-n', 'shop', '-o', target], {});
  t.equal(extracted.code, 0, extracted.stderr);
  await kubectl(api, 'delete', 'namespace', 'shop', '--wait=false');
  // No kubelet confirms that the pods have ended.
  await until(async () => {
    await kubectl(api, 'delete', 'pods', '--all', '-n', 'shop', '--force', '--grace-period=0').catch(() => {});
    return (await api.get('/api/v1/namespaces/shop')) === undefined;
  });
  await kubectl(api, 'apply', '-R', '-f', join(target, '_cluster'), '-f', join(target, 'shop'));
  const wanted = (object: JsonObject): boolean =>
    !/^(?:Pod|ReplicaSet|Endpoints|EndpointSlice|ControllerRevision|Event|Lease)$/.test(textAt(object, 'kind'));
  const minute = Date.now() + 60_000;
  await until(() => Date.now() > minute);
  const after = await objectsOfShop();
  for (const [name, object] of before) {
    if (!wanted(object) || /kube-root-ca|^ServiceAccount default/.test(name)) continue;
    t.strictSame(withoutServerFields(after.get(name) ?? {}), withoutServerFields(object), name);
  }
  t.ok([...after.keys()].filter((name) => name.startsWith('Pod ')).length >= 4, 'the controllers made the pods again');
});

/** Ages of `browse` are those of the time of the snapshot. The last one is not in the tables of this API server. */
const UNLIKE = new Set(['Age', 'Duration', 'Last Schedule', 'Last Seen', 'First Seen', 'PreemptionPolicy']);

/** The columns of `browse` and of the API server. */
async function compareTables(t: Test, api: ApiServer, browse: readonly string[]): Promise<void> {
  const { worker, url } = await startBrowse(...browse);
  t.teardown(() => worker.kill());
  let compared = 0;
  for (const resource of await api.resources()) {
    const path = `${apiPath(resource.groupVersion)}/${resource.name}`;
    const ours = (await (await fetch(`${url}${path}`, { headers: { accept: TABLE } })).json()) as Partial<Table>;
    if (ours.columnDefinitions === undefined || ours.columnDefinitions.length < 3) continue;
    const theirs = JSON.parse((await api.send('GET', path, undefined, TABLE)).body) as Table;
    const rows = ({ columnDefinitions = [], rows: found = [] }: Partial<Table>, names: readonly string[]): object =>
      Object.fromEntries(
        found.map(({ cells, object }) => [
          `${textAt(object, 'metadata', 'namespace')}/${textAt(object, 'metadata', 'name')}`,
          names.map((name) => `${name}: ${String(cells[columnDefinitions.findIndex((each) => each.name === name)])}`),
        ]),
      );
    const names = ours.columnDefinitions.map(({ name }) => name).filter((name) => !UNLIKE.has(name));
    t.strictSame(rows(ours, names), rows(theirs, names), path);
    compared++;
  }
  t.ok(compared >= 10, `${compared} types`);
}

/** Without what a new object has of its own. */
function withoutServerFields(object: JsonObject): JsonObject {
  const isJob = object['kind'] === 'Job';
  const text = JSON.stringify(withoutNullTimes(object), (name, value: Json) => {
    // `kubectl apply` takes null for a field that is not set.
    if ((isJob && name === 'selector') || value === null) return undefined;
    if (
      /^(?:uid|resourceVersion|generation|creationTimestamp|managedFields|status|clusterIPs?|finalizers|controller-uid|batch\.kubernetes\.io\/controller-uid)$/.test(
        name,
      )
    )
      return undefined;
    if (name === 'kubectl.kubernetes.io/last-applied-configuration' || name.startsWith('pv.kubernetes.io/'))
      return undefined;
    return typeof value === 'bigint' ? String(value) : value;
  });
  const rest = JSON.parse(text) as { metadata: JsonObject };
  if (isObject(rest.metadata['annotations']) && Object.keys(rest.metadata['annotations']).length === 0)
    delete rest.metadata['annotations'];
  return rest;
}
