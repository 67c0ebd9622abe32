import { access } from 'node:fs/promises';
import { join } from 'node:path';
import type { TlsFiles } from '../config.ts';
import { UsageError } from '../errors.ts';

interface Layout extends TlsFiles {
  readonly name: string;
}

/** Where installers put a client certificate for etcd; the first is the default. */
const LAYOUTS: readonly Layout[] = [
  layout('AKS Engine', '/etc/kubernetes/certs', 'ca.crt', 'etcdclient'),
  layout('kubeadm', '/etc/kubernetes/pki/etcd', 'ca.crt', 'healthcheck-client'),
  layout('k3s', '/var/lib/rancher/k3s/server/tls/etcd', 'server-ca.crt', 'client'),
  layout('RKE2', '/var/lib/rancher/rke2/server/tls/etcd', 'server-ca.crt', 'server-client'),
];

/**
 * The files of the one known layout that is on this host, or the default ones: where nothing is found, their absence is told.
 * @param named files that variables name; when all are named, nothing is looked for
 * @param root where the file system begins
 * @throws UsageError when there are several layouts and none of them is the default
 */
export async function findLayout(named: Partial<TlsFiles>, root = '/'): Promise<TlsFiles> {
  const [preset] = LAYOUTS;
  if (preset === undefined) throw new Error('there is no layout');
  if (named.ca !== undefined && named.cert !== undefined && named.key !== undefined) return preset;
  const found: Layout[] = [];
  for (const candidate of LAYOUTS) if (await isThere(candidate, root)) found.push(candidate);
  const [first, ...others] = found;
  if (first === undefined || first === preset) return preset;
  if (others.length === 0) return first;
  throw new UsageError(
    `There are client certificates of several installers on this host: ${found.map(({ name }) => name).join(', ')}.`,
    'Name the files with SNAPSHOT_ETCD_CA_FILE, _CERT_FILE and _KEY_FILE.',
  );
}

function layout(name: string, dir: string, ca: string, client: string): Layout {
  return { name, ca: `${dir}/${ca}`, cert: `${dir}/${client}.crt`, key: `${dir}/${client}.key` };
}

async function isThere({ ca, cert, key }: Layout, root: string): Promise<boolean> {
  const checks = [ca, cert, key].map(async (path) => access(join(root, path)));
  return (await Promise.allSettled(checks)).every(({ status }) => status === 'fulfilled');
}
