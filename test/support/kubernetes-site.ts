import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  ContainerSASPermissions,
  generateBlobSASQueryParameters,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { Azurite } from './azurite.ts';
import { type Fault, type FaultRule, FaultProxy } from './fault-proxy.ts';
import { trust } from './certificates.ts';
import { findJudge } from './judges.ts';
import { HOST, Kubernetes } from './kubernetes.ts';
import { type KubernetesNode, PAUSE_IMAGE } from './kubernetes-node.ts';
import { MANIFESTS } from './manifests.ts';
import { mustRun, temporaryFolder } from './process.ts';

const ROOT = join(MANIFESTS, '..');
/** Its name in the manifests and the docs. */
export const IMAGE = 'registry.example.com/etcd-snapshot-azure-blob:0.1.0';
const NAMESPACE = ['--namespace', 'kube-system'];
export const PODS = '/api/v1/namespaces/kube-system/pods';
export const JOBS = '/apis/batch/v1/namespaces/kube-system/jobs';

/** How a Job ended, and its pods in the order of their start. */
export interface Outcome {
  readonly succeeded: boolean;
  /** Of the condition Failed: BackoffLimitExceeded, PodFailurePolicy, DeadlineExceeded. */
  readonly reason: string | undefined;
  readonly pods: readonly {
    readonly name: string;
    readonly node: string;
    readonly reason: string | undefined;
    readonly code: number | undefined;
    readonly message: string;
  }[];
}

export interface JobChange {
  readonly env?: Readonly<Record<string, string>>;
  readonly args?: readonly string[];
  readonly secret?: string;
  /** What the scheduler looks for, over what the manifest requests. */
  readonly requests?: Readonly<Record<string, string>>;
  /** Over the Job's own settings. */
  readonly job?: object;
  /** Over those of its pods. */
  readonly pod?: object;
}

// oxlint-disable-next-line typescript/no-explicit-any -- objects of any kind
type Loose = any;

/** A cluster with control-plane nodes m1, m2 …, a storage account, and a copy of the manifests, ready for the commands of the docs. */
export class KubernetesSite {
  readonly kubernetes: Kubernetes;
  readonly azurite: Azurite;
  /** Where the commands of the docs run: it has `manifests` and the file for the Secret. */
  readonly dir: string;
  /** What happens to requests to Azure. */
  rule: FaultRule = () => 'pass';
  readonly #gate: FaultProxy;

  private constructor(kubernetes: Kubernetes, azurite: Azurite, gate: FaultProxy, dir: string) {
    this.kubernetes = kubernetes;
    this.azurite = azurite;
    this.#gate = gate;
    this.dir = dir;
  }

  static async start(nodes: readonly string[]): Promise<KubernetesSite> {
    const dir = temporaryFolder('site');
    const kubernetes = await Kubernetes.start(await images());
    const { authority } = kubernetes;
    await trust(authority);
    const azurite = await Azurite.start(join(dir, 'azurite'), authority, HOST);
    let site: KubernetesSite | undefined;
    const rule: FaultRule = async (seen) => site?.rule(seen) ?? 'pass';
    const gate = await FaultProxy.start(azurite.url, rule, authority, HOST);
    site = new KubernetesSite(kubernetes, azurite, gate, dir);
    cpSync(MANIFESTS, join(dir, 'manifests'), { recursive: true });
    copyFileSync(authority.ca, join(dir, 'ca.pem'));
    try {
      for (const name of nodes) await site.addNode(name);
    } catch (error) {
      await site.stop();
      throw error;
    }
    return site;
  }

  /** With etcd's client certificate where AKS Engine and kubeadm have it. */
  async addNode(name: string, dir?: string): Promise<KubernetesNode> {
    const { kubernetes } = this;
    const node = await kubernetes.addNode(name, dir);
    const { ca, cert, key } = kubernetes.authority.client;
    const [certs, pki] = ['/etc/kubernetes/certs', '/etc/kubernetes/pki/etcd'];
    await node.mustRun('mkdir', '-p', certs, pki);
    await node.mustRun('cp', ca, cert, key, certs);
    await node.mustRun('cp', ca, join(pki, 'ca.crt'));
    await node.mustRun('cp', cert, join(pki, 'healthcheck-client.crt'));
    await node.mustRun('cp', key, join(pki, 'healthcheck-client.key'));
    return node;
  }

  /** The worker's variables, as a Secret has them. */
  variables(container: string): Record<string, string> {
    return {
      SNAPSHOT_ETCD_ENDPOINTS: this.kubernetes.etcd.endpoints,
      ...this.azurite.variables(container),
      SNAPSHOT_AZURE_BLOB_ENDPOINT: this.#gate.url,
      NODE_EXTRA_CA_CERTS: '/etc/kubernetes/certs/ca.crt',
    };
  }

  /** From now on nothing is stored, until the function that is returned is called. */
  hold(): () => void {
    const released = Promise.withResolvers<void>();
    this.rule = async ({ method }): Promise<Fault> => {
      if (method === 'PUT') await released.promise;
      return 'pass';
    };
    return () => {
      this.rule = () => 'pass';
      released.resolve();
    };
  }

  /** Requests to Azure that are not answered yet. */
  waiting(): number {
    return this.#gate.underWay;
  }

  /** A SAS token for a container, with rights such as `rcwl`. */
  sas(containerName: string, rights: string): string {
    const { account, key } = this.azurite;
    const permissions = ContainerSASPermissions.parse(rights);
    const times = { startsOn: new Date(Date.now() - 300_000), expiresOn: new Date(Date.now() + 3_600_000) };
    const credential = new StorageSharedKeyCredential(account, key);
    return generateBlobSASQueryParameters({ containerName, permissions, ...times }, credential).toString();
  }

  /** A file for `kubectl create secret --from-env-file`. */
  writeSecret(file: string, variables: Readonly<Record<string, string>>): void {
    const lines = Object.entries(variables).map(([name, value]) => `${name}=${value}\n`);
    writeFileSync(join(this.dir, file), lines.join(''));
  }

  /** Runs commands of the docs; they must succeed. Returns what they print. */
  async shell(script: string): Promise<{ stdout: string; stderr: string }> {
    const { code, stdout, stderr } = await this.kubernetes.shell(script, this.dir);
    if (code !== 0) throw new Error(`${script}\nended with ${code}: ${stderr}${stdout}\n${this.kubernetes.output}`);
    return { stdout, stderr };
  }

  /** Starts a Job from a CronJob, as `kubectl create job --from` does, with some things changed. */
  async startJob(name: string, cronJob: string, change: JobChange = {}): Promise<void> {
    const { env = {}, args, secret, requests, job, pod } = change;
    const from = `--from=cronjob/${cronJob}`;
    const made = await this.kubernetes.mustKubectl(
      ...['create', 'job', name, from, '--dry-run=client', '--output', 'json', ...NAMESPACE],
    );
    const object: Loose = JSON.parse(made);
    // Otherwise it counts in the CronJob's history, which keeps two failed ones.
    delete object.metadata.ownerReferences;
    const { template } = object.spec;
    const [container] = template.spec.containers;
    const kept = (container.env ?? []).filter((variable: { name: string }) => !(variable.name in env));
    container.env = [...kept, ...Object.entries(env).map(([key, value]) => ({ name: key, value }))];
    if (args !== undefined) container.args = args;
    if (secret !== undefined) container.envFrom = [{ secretRef: { name: secret } }];
    Object.assign(container.resources.requests, requests);
    Object.assign(object.spec, job);
    Object.assign(template.spec, pod);
    const file = join(this.dir, `${name}.json`);
    writeFileSync(file, JSON.stringify(object));
    await this.kubernetes.mustKubectl('create', '--filename', file);
  }

  async podsOf(job: string): Promise<Loose[]> {
    const { items } = await this.kubernetes.get(`${PODS}?labelSelector=job-name%3D${job}`);
    const start = ({ metadata }: Loose): string => metadata.creationTimestamp;
    return items.toSorted((a: Loose, b: Loose) => (start(a) < start(b) ? -1 : 1));
  }

  /** Waits until a pod of the Job runs, and returns it. */
  async running(job: string): Promise<Loose> {
    let pod: Loose;
    await this.eventually(`a pod of ${job} runs`, async () => {
      pod = (await this.podsOf(job)).find(({ status }) => status.phase === 'Running');
      return pod !== undefined;
    });
    return pod;
  }

  /** Waits for the end of a Job. */
  async outcome(job: string): Promise<Outcome> {
    let conditions: Loose[] = [];
    await this.eventually(`${job} ends`, async () => {
      const { status } = await this.kubernetes.get(`${JOBS}/${job}`);
      conditions = (status.conditions ?? []).filter(({ type }: Loose) => type === 'Complete' || type === 'Failed');
      return conditions.length > 0;
    });
    const pods = (await this.podsOf(job)).map(({ metadata, spec, status }) => {
      const ended = status.containerStatuses?.[0]?.state.terminated;
      return {
        name: metadata.name,
        node: spec.nodeName,
        reason: status.reason,
        code: ended?.exitCode,
        message: ended?.message ?? '',
      };
    });
    const [{ type, reason }] = conditions as [Loose];
    return { succeeded: type === 'Complete', reason: type === 'Failed' ? reason : undefined, pods };
  }

  /** The names of the Jobs that a CronJob has made, in the order of their making. */
  async jobsOf(cronJob: string): Promise<string[]> {
    const { items } = await this.kubernetes.get(JOBS);
    return items
      .map(({ metadata }: Loose): string => metadata.name)
      .filter((name: string) => name.startsWith(`${cronJob}-`) && /-\d+$/.test(name))
      .toSorted();
  }

  async patch(kind: string, name: string, patch: object): Promise<void> {
    await this.kubernetes.mustKubectl('patch', kind, name, ...NAMESPACE, '--patch', JSON.stringify(patch));
  }

  /** Waits for something; if it does not happen within ten minutes, says what the cluster said last. */
  async eventually(what: string, happened: () => Promise<boolean>): Promise<void> {
    for (const end = Date.now() + 600_000; Date.now() < end; await sleep(1000)) if (await happened()) return;
    const state = await this.kubernetes.kubectl(
      'get',
      'nodes,cronjobs,jobs,pods',
      '--all-namespaces',
      '--output',
      'wide',
    );
    throw new Error(`This never happened: ${what}\n${state.stdout}\n${this.kubernetes.output}`);
  }

  async stop(): Promise<void> {
    await this.kubernetes.stop();
    await Promise.all([this.#gate.stop(), this.azurite.stop()]);
  }
}

/** The shell commands of a section of a page, with its subsections, block by block. */
export function commandsOf(page: string, section: string): string[] {
  const text = readFileSync(join(ROOT, page), 'utf8');
  const [, rest] = text.split(new RegExp(`^## ${section}$`, 'm'));
  if (rest === undefined) throw new Error(`${page} has no section ${section}`);
  const [own = ''] = rest.split(/^## /m);
  return [...own.matchAll(/^```sh\n([^]*?)^```$/gm)].map(([, block = '']) => block);
}

/** Archives of the project's image, built from these sources, and of the one that pods need. */
async function images(): Promise<string[]> {
  const dir = temporaryFolder('images');
  const [worker, pause] = [join(dir, 'worker.tar'), join(dir, 'pause.tar')];
  await mustRun(join(ROOT, 'scripts', 'image-build.sh'), ['etcd-snapshot-azure-blob:test'], { STAND_IN_BASE: '1' });
  await mustRun('buildah', ['push', '--quiet', 'etcd-snapshot-azure-blob:test', `oci-archive:${worker}:${IMAGE}`]);
  const context = join(dir, 'pause');
  mkdirSync(context);
  copyFileSync(findJudge('pause') ?? '', join(context, 'pause'));
  chmodSync(join(context, 'pause'), 0o755);
  writeFileSync(join(context, 'Dockerfile'), 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n');
  await mustRun('buildah', ['bud', '--quiet', '--isolation', 'chroot', '--tag', PAUSE_IMAGE, context]);
  await mustRun('buildah', ['push', '--quiet', PAUSE_IMAGE, `oci-archive:${pause}:${PAUSE_IMAGE}`]);
  for (const file of [worker, pause]) if (!existsSync(file)) throw new Error(`${file} was not made`);
  return [worker, pause];
}
