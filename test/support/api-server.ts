import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { JsonObject } from '../../src/objects/object-values.ts';
import { makeAuthority } from './certificates.ts';
import type { EtcdCluster } from './etcd.ts';
import { findJudge } from './judges.ts';
import { Daemon, freePort } from './process.ts';
import { until } from './until.ts';

/** For `send`: the answer is a table, with the columns that kubectl shows. */
export const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io';

export interface Table {
  readonly columnDefinitions: readonly { readonly name: string; readonly priority: number }[];
  readonly rows: readonly { readonly cells: readonly unknown[]; readonly object: JsonObject }[];
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** A resource that an API server serves. */
export interface Resource {
  readonly groupVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly namespaced: boolean;
}

/** A real kube-apiserver without nodes and controllers, on a given etcd. */
export class ApiServer {
  readonly url: string;
  readonly kubeconfig: string;
  readonly #ca: string;
  readonly #token: string;
  readonly #program: string;
  readonly #daemons: Daemon[] = [];

  private constructor(program: string, url: string, kubeconfig: string, ca: string, token: string) {
    this.#program = program;
    this.url = url;
    this.kubeconfig = kubeconfig;
    this.#ca = ca;
    this.#token = token;
  }

  /**
   * @param flags in addition, such as `--etcd-prefix=/other`
   * @param program built by test/tools/build-kubernetes.sh
   */
  static async start(
    etcd: EtcdCluster,
    dir: string,
    flags: readonly string[] = [],
    program = 'kubernetes-node',
  ): Promise<ApiServer> {
    const authority = await makeAuthority(join(dir, 'certs'), 'test CA', 365, ['127.0.0.1']);
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    writeFileSync(join(dir, 'accounts.pub'), publicKey.export({ type: 'spki', format: 'pem' }));
    writeFileSync(join(dir, 'accounts.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
    const token = randomBytes(16).toString('hex');
    writeFileSync(join(dir, 'tokens.csv'), `${token},admin,admin,system:masters\n`);
    const port = await freePort();
    const url = `https://127.0.0.1:${port}`;
    const kubeconfig = join(dir, 'kubeconfig');
    const cluster = { server: url, 'certificate-authority': authority.ca };
    writeFileSync(
      kubeconfig,
      JSON.stringify({
        ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'test' },
        clusters: [{ name: 'test', cluster }],
        users: [{ name: 'admin', user: { token } }],
        contexts: [{ name: 'test', context: { cluster: 'test', user: 'admin' } }],
      }),
    );
    const server = new ApiServer(findJudge(program) ?? '', url, kubeconfig, authority.ca, token);
    server.#daemons.push(
      await Daemon.start(
        server.#program,
        [
          ...[
            'kube-apiserver',
            `--etcd-servers=${etcd.endpoints}`,
            '--bind-address=127.0.0.1',
            `--secure-port=${port}`,
          ],
          ...[`--tls-cert-file=${authority.server.cert}`, `--tls-private-key-file=${authority.server.key}`],
          ...[`--token-auth-file=${join(dir, 'tokens.csv')}`, '--authorization-mode=RBAC'],
          ...[
            '--service-account-issuer=https://kubernetes.test',
            `--service-account-key-file=${join(dir, 'accounts.pub')}`,
          ],
          ...[`--service-account-signing-key-file=${join(dir, 'accounts.key')}`, '--endpoint-reconciler-type=none'],
          ...['--service-cluster-ip-range=10.255.0.0/24', '--disable-admission-plugins=ServiceAccount', ...flags],
        ],
        async () => Promise.resolve(true),
      ),
    );
    try {
      await until(async () => {
        if (!server.#daemons.every(({ running }) => running)) throw new Error(server.output);
        return (await server.send('GET', '/readyz').catch(() => ({ status: 0 }))).status === 200;
      });
      return server;
    } catch (error) {
      await server.stop();
      throw error;
    }
  }

  /** A real controller manager with it. */
  async startControllers(dir: string): Promise<void> {
    this.#daemons.push(
      await Daemon.start(
        this.#program,
        [
          ...['kube-controller-manager', `--kubeconfig=${this.kubeconfig}`, '--leader-elect=false'],
          ...['--bind-address=127.0.0.1', `--secure-port=${await freePort()}`],
          ...[`--service-account-private-key-file=${join(dir, 'accounts.key')}`, `--root-ca-file=${this.#ca}`],
        ],
        async () => Promise.resolve(true),
      ),
    );
  }

  async send(method: string, path: string, body?: string, accept = 'application/json'): Promise<Answer> {
    const type = { 'content-type': 'application/json' };
    const headers = { authorization: `Bearer ${this.#token}`, accept, ...(body !== undefined && type) };
    const call = request(`${this.url}${path}`, { method, ca: readFileSync(this.#ca), headers }).end(body);
    const [answer] = (await once(call, 'response')) as [IncomingMessage];
    return { status: answer.statusCode ?? 0, body: await text(answer) };
  }

  async get(path: string): Promise<string | undefined> {
    const { status, body } = await this.send('GET', path);
    if (status === 404) return undefined;
    if (status === 200) return body;
    throw new Error(`GET ${path}: ${status} ${body}`);
  }

  /** All of them in all versions, without subresources. */
  async resources(): Promise<Resource[]> {
    const { groups } = JSON.parse((await this.get('/apis')) ?? '{}') as {
      groups: { versions: { groupVersion: string }[] }[];
    };
    const versions = ['v1', ...groups.flatMap((group) => group.versions.map(({ groupVersion }) => groupVersion))];
    const found: Resource[] = [];
    for (const groupVersion of versions) {
      const list = JSON.parse((await this.get(apiPath(groupVersion))) ?? '{"resources":[]}') as {
        resources: Resource[];
      };
      for (const { name, kind, namespaced } of list.resources) {
        if (!name.includes('/')) found.push({ groupVersion, name, kind, namespaced });
      }
    }
    return found;
  }

  get output(): string {
    return this.#daemons.map(({ output }) => output.slice(-4000)).join('\n---\n');
  }

  async stop(): Promise<void> {
    await Promise.all(this.#daemons.map(async (daemon) => daemon.stop()));
  }
}

export function apiPath(groupVersion: string): string {
  return groupVersion.includes('/') ? `/apis/${groupVersion}` : `/api/${groupVersion}`;
}

/** The path of an object. */
export function pathOf({ groupVersion, name, namespaced }: Resource, namespace: string, object: string): string {
  return `${apiPath(groupVersion)}/${namespaced ? `namespaces/${namespace}/` : ''}${name}/${object}`;
}

const PREFIXES: Readonly<Record<string, string>> = {
  ...{
    replicationcontrollers: 'controllers',
    endpoints: 'services/endpoints',
    nodes: 'minions',
    services: 'services/specs',
  },
  ...{ ingresses: 'ingress', customresourcedefinitions: 'apiextensions.k8s.io/customresourcedefinitions' },
  ...{ apiservices: 'apiregistration.k8s.io/apiservices' },
};

/** The key of a built-in type's object in etcd. */
export function keyOf({ name, namespaced }: Resource, namespace: string, object: string): string {
  return `/registry/${PREFIXES[name] ?? name}/${namespaced ? `${namespace}/` : ''}${object}`;
}
