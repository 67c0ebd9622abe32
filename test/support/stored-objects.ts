import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ApiServer, apiPath, type Resource } from './api-server.ts';
import { EtcdCluster, findEtcd } from './etcd.ts';
import { findJudge } from './judges.ts';
import { mustRun } from './process.ts';
import { until } from './until.ts';

export const OBJECTS = join(import.meta.dirname, '..', 'fixtures', 'kubernetes-objects');

/** Each needs 32 bytes; those of the fixtures protect nothing. */
const SECRETS = {
  aescbc: Buffer.alloc(32, 'cbc').toString('base64'),
  aesgcm: Buffer.alloc(32, 'gcm').toString('base64'),
  secretbox: Buffer.alloc(32, 'box').toString('base64'),
};

/** An encryption configuration that writes with one provider and reads with all. */
export function encryptionConfig(first: keyof typeof SECRETS | 'identity'): string {
  const all = ['identity', ...Object.keys(SECRETS)] as const;
  const order = [first, ...all.filter((name) => name !== first)];
  const providers = order.map((name) =>
    name === 'identity'
      ? { identity: {} }
      : { [name]: { keys: [{ name: 'key1', secret: SECRETS[name as 'aescbc'] }] } },
  );
  return JSON.stringify({
    ...{ apiVersion: 'apiserver.config.k8s.io/v1', kind: 'EncryptionConfiguration' },
    resources: [{ resources: ['secrets'], providers }],
  });
}

/** A widget, of the custom resource in shop.yaml. Its number is larger than 2^53. */
const WIDGET = {
  ...{ apiVersion: 'example.com/v1', kind: 'Widget', metadata: { name: 'big', namespace: 'shop' } },
  spec: {
    size: 1,
    ratio: 1.5,
    tags: ['a', 'true'],
    port: '80',
    free: { big: 1, deep: [{ 'key with: colon': null }, [1.0, -2]] },
  },
};

/** A real etcd and API server with the objects of shop.yaml, Secrets of each provider, and what the controllers made of them. */
export async function startWithObjects(dir: string): Promise<{ etcd: EtcdCluster; api: ApiServer }> {
  mkdirSync(dir, { recursive: true });
  const tools = findEtcd().at(-1);
  if (tools === undefined) throw new Error('no etcd');
  const etcd = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
  const config = join(dir, 'encryption.json');
  for (const provider of ['aescbc', 'aesgcm', 'secretbox'] as const) {
    writeFileSync(config, encryptionConfig(provider));
    const api = await ApiServer.start(etcd, dir, [`--encryption-provider-config=${config}`]);
    await until(async () => (await api.get('/api/v1/namespaces/default')) !== undefined);
    const secret = {
      kind: 'Secret',
      apiVersion: 'v1',
      metadata: { name: provider },
      stringData: { password: provider },
    };
    await api.send('POST', '/api/v1/namespaces/default/secrets', JSON.stringify(secret));
    await api.stop();
  }
  writeFileSync(config, encryptionConfig('identity'));
  const api = await ApiServer.start(etcd, dir, [`--encryption-provider-config=${config}`]);
  try {
    await api.startControllers(dir);
    await kubectl(api, 'apply', '--filename', join(OBJECTS, 'shop.yaml'));
    await createWidget(api);
    await until(async () => {
      const list = JSON.parse((await api.get('/api/v1/namespaces/shop/pods')) ?? '{}') as { items: unknown[] };
      return list.items.length >= 4;
    });
    return { etcd, api };
  } catch (error) {
    await api.stop();
    await etcd.stop();
    throw error;
  }
}

/** As soon as the API server knows the type. */
export async function createWidget(api: ApiServer): Promise<void> {
  const widget = JSON.stringify(WIDGET).replace('"big":1', '"big":9007199254740993');
  await until(async () => {
    const { status, body } = await api.send('POST', '/apis/example.com/v1/namespaces/shop/widgets', widget);
    if (status === 422) throw new Error(body);
    return status === 201;
  });
}

export async function kubectl(api: ApiServer, ...args: readonly string[]): Promise<string> {
  return mustRun(findJudge('kubectl') ?? '', ['--kubeconfig', api.kubeconfig, ...args]);
}

/** Every object of an API server as it returns it, in one version of each type. */
export async function allObjects(api: ApiServer): Promise<string[]> {
  const seen = new Set<string>();
  const found: string[] = [];
  for (const resource of await api.resources()) {
    const { groupVersion, name } = resource;
    const group = groupVersion.includes('/') ? groupVersion.split('/')[0] : '';
    // The same events are also those of v1.
    if (group === 'events.k8s.io' || seen.has(`${group}/${name}`) || !isListed(resource)) continue;
    seen.add(`${group}/${name}`);
    const list = await api.get(`${apiPath(groupVersion)}/${name}`);
    if (list === undefined) continue;
    const { items } = JSON.parse(list) as { items: { metadata: { name: string; namespace?: string } }[] };
    for (const { metadata } of items) {
      const scope = metadata.namespace === undefined ? '' : `namespaces/${metadata.namespace}/`;
      const text = await api.get(`${apiPath(groupVersion)}/${scope}${name}/${metadata.name}`);
      if (text !== undefined) found.push(text);
    }
  }
  return found;
}

/** Reviews can only be created, and component statuses are not stored. */
function isListed({ name }: Resource): boolean {
  return !/reviews$|^componentstatuses$|^bindings$/.test(name);
}
