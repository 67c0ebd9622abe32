import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import { findJudge } from './judges.ts';
import { mustRun, temporaryFolder } from './process.ts';

export const MANIFESTS = join(import.meta.dirname, '..', '..', 'manifests');

export interface Container {
  readonly name: string;
  readonly image: string;
  readonly args?: readonly string[];
  readonly terminationMessagePath?: string;
  readonly terminationMessagePolicy?: string;
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
  readonly envFrom: readonly { readonly secretRef: { readonly name: string } }[];
  readonly securityContext: {
    readonly readOnlyRootFilesystem?: boolean;
    readonly capabilities: { readonly add?: readonly string[] };
  };
  readonly resources: { readonly requests: Resources; readonly limits: Resources };
  readonly volumeMounts?: readonly Mount[];
}

interface Resources {
  readonly cpu?: string;
  readonly memory?: string;
  readonly 'ephemeral-storage'?: string;
}

interface Mount {
  readonly name: string;
  readonly mountPath: string;
  readonly readOnly?: boolean;
}

interface Volume {
  readonly name: string;
  readonly hostPath?: { readonly path: string; readonly type?: string };
  readonly emptyDir?: { readonly sizeLimit?: string };
  readonly configMap?: { readonly name: string };
  readonly projected?: {
    readonly sources: readonly { readonly serviceAccountToken: { readonly path: string; readonly audience: string } }[];
  };
}

interface Term {
  readonly matchExpressions: readonly { readonly key: string; readonly operator: string }[];
}

interface PodSpec {
  readonly serviceAccountName?: string;
  readonly automountServiceAccountToken?: boolean;
  readonly enableServiceLinks?: boolean;
  readonly hostNetwork?: boolean;
  readonly nodeName?: string;
  readonly restartPolicy: string;
  readonly activeDeadlineSeconds?: number;
  readonly securityContext: { readonly runAsUser: number; readonly runAsGroup: number };
  readonly terminationGracePeriodSeconds: number;
  readonly affinity?: {
    readonly nodeAffinity: {
      readonly requiredDuringSchedulingIgnoredDuringExecution?: { readonly nodeSelectorTerms: readonly Term[] };
    };
  };
  readonly tolerations?: readonly { readonly key?: string; readonly operator: string; readonly effect?: string }[];
  readonly containers: readonly [Container, ...Container[]];
  readonly volumes?: readonly Volume[];
}

export interface JobSpec {
  readonly activeDeadlineSeconds: number;
  readonly backoffLimit: number;
  readonly ttlSecondsAfterFinished?: number;
  readonly podFailurePolicy: {
    readonly rules: readonly {
      readonly action: string;
      readonly onPodConditions?: readonly { readonly type: string; readonly status: string }[];
      readonly onExitCodes?: {
        readonly containerName: string;
        readonly operator: string;
        readonly values: readonly number[];
      };
    }[];
  };
  readonly template: { readonly metadata: Metadata; readonly spec: PodSpec };
}

/** Seconds from the start of a pod to that of its worker: the image is pulled, volumes are mounted. */
const POD_START = 120;

/**
 * What does not fit of a Job's three deadlines, so that no attempt loses its log: after `timeout` seconds the worker ends
 * itself; the pod's deadline ends an attempt that cannot; the Job's, which deletes pods and logs, is for all attempts.
 */
export function deadlineProblems(job: JobSpec, timeout: number): string[] {
  const { activeDeadlineSeconds: attempt = 0, terminationGracePeriodSeconds: grace } = job.template.spec;
  const shortest = timeout + POD_START + grace;
  // The Job controller's: 10 s before the second attempt, twice as long before each further one.
  const pauses = Array.from({ length: job.backoffLimit }, (_, index) => Math.min(10 * 2 ** index, 600));
  const all = (job.backoffLimit + 1) * attempt + pauses.reduce((sum, pause) => sum + pause, 0);
  return [
    attempt < shortest && `the pod has ${attempt} s, an attempt needs ${shortest} s`,
    job.activeDeadlineSeconds < all && `the Job has ${job.activeDeadlineSeconds} s, all attempts need ${all} s`,
  ].filter((problem) => problem !== false);
}

interface Metadata {
  readonly name: string;
  readonly namespace?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

interface CronSpec {
  readonly schedule: string;
  readonly startingDeadlineSeconds: number;
  readonly concurrencyPolicy: string;
  readonly successfulJobsHistoryLimit: number;
  readonly failedJobsHistoryLimit: number;
  readonly jobTemplate: { readonly metadata: Metadata; readonly spec: JobSpec };
}

interface Thing {
  readonly apiVersion: string;
  readonly metadata: Metadata;
}

export type KubernetesObject =
  | (Thing & { readonly kind: 'CronJob'; readonly spec: CronSpec })
  | (Thing & { readonly kind: 'Job'; readonly spec: JobSpec })
  | (Thing & { readonly kind: 'ServiceAccount' });

/** A CronJob or a Job, and what both have. */
export interface Work {
  readonly name: string;
  readonly metadata: Metadata;
  /** Absent of a Job. */
  readonly cron: CronSpec | undefined;
  readonly job: JobSpec;
  readonly pod: PodSpec;
  readonly container: Container;
}

/** What kustomize makes of a folder. */
export interface Built {
  /** How tests call it. */
  readonly name: string;
  readonly dir: string;
  readonly yaml: string;
  readonly objects: readonly KubernetesObject[];
}

interface Kustomization {
  readonly kind: 'Kustomization' | 'Component';
  readonly resources?: readonly string[];
  readonly components?: readonly string[];
  readonly patches?: readonly { readonly path?: string }[];
}

/** Every folder with a kustomization.yaml under manifests. */
export function kustomizations(): { readonly dir: string; readonly kustomization: Kustomization }[] {
  return readdirSync(MANIFESTS, { recursive: true, encoding: 'utf8' })
    .filter((file) => /(^|\/)kustomization\.yaml$/.test(file))
    .map((file) => dirname(join(MANIFESTS, file)))
    .map((dir) => ({ dir, kustomization: readKustomization(dir) }))
    .toSorted((a, b) => (a.dir < b.dir ? -1 : 1));
}

/** Needs kubectl. */
export async function build(dir: string, name = relative(MANIFESTS, dir)): Promise<Built> {
  const yaml = await mustRun(findJudge('kubectl') ?? 'kubectl', ['kustomize', dir]);
  const objects = parseAllDocuments(yaml).map((document) => document.toJS() as KubernetesObject);
  return { name, dir, yaml, objects };
}

/** A kustomization of a user: the text of its file, in which each folder of manifests stands as `MANIFESTS/…`, and files beside it. */
export async function buildOwn(name: string, text: string, files: Readonly<Record<string, string>>): Promise<Built> {
  const dir = temporaryFolder('kustomization');
  for (const [file, content] of Object.entries(files)) writeFileSync(join(dir, file), content);
  writeFileSync(join(dir, 'kustomization.yaml'), text.replaceAll('MANIFESTS/', `${relative(dir, MANIFESTS)}/`));
  return build(dir, name);
}

export function worksOf({ objects }: Built): Work[] {
  return objects.flatMap((object) => {
    if (object.kind === 'ServiceAccount' || !('spec' in object)) return [];
    const cron = object.kind === 'CronJob' ? object.spec : undefined;
    const job =
      object.kind === 'Job' ? object.spec : object.kind === 'CronJob' ? object.spec.jobTemplate.spec : undefined;
    if (job === undefined) return [];
    const { metadata } = object;
    const pod = job.template.spec;
    return [{ name: metadata.name, metadata, cron, job, pod, container: pod.containers[0] }];
  });
}

/** The texts of all files that a kustomization is made of. */
export function sourcesOf(dir: string): string[] {
  const { resources = [], components = [], patches = [] } = readKustomization(dir);
  const named = [...resources, ...components, ...patches.map(({ path }) => path ?? '')].filter((path) => path !== '');
  return named.flatMap((path) =>
    path.endsWith('.yaml') ? [readFileSync(join(dir, path), 'utf8')] : sourcesOf(join(dir, path)),
  );
}

function readKustomization(dir: string): Kustomization {
  return parse(readFileSync(join(dir, 'kustomization.yaml'), 'utf8')) as Kustomization;
}
