import type { Identity } from './identity.ts';

/** The versions of APIs that Kubernetes dropped, as `apiVersion` or `apiVersion Kind`, and the first version that does not serve them. */
const DROPPED: Readonly<Record<string, string>> = {
  'extensions/v1beta1': '1.16',
  'extensions/v1beta1 Ingress': '1.22',
  'apps/v1beta1': '1.16',
  'apps/v1beta2': '1.16',
  'admissionregistration.k8s.io/v1beta1 MutatingWebhookConfiguration': '1.22',
  'admissionregistration.k8s.io/v1beta1 ValidatingWebhookConfiguration': '1.22',
  'apiregistration.k8s.io/v1beta1': '1.22',
  'certificates.k8s.io/v1beta1 CertificateSigningRequest': '1.22',
  'coordination.k8s.io/v1beta1 Lease': '1.22',
  'networking.k8s.io/v1beta1 Ingress': '1.22',
  'networking.k8s.io/v1beta1 IngressClass': '1.22',
  'rbac.authorization.k8s.io/v1alpha1': '1.22',
  'rbac.authorization.k8s.io/v1beta1': '1.22',
  'scheduling.k8s.io/v1alpha1 PriorityClass': '1.22',
  'scheduling.k8s.io/v1beta1 PriorityClass': '1.22',
  'storage.k8s.io/v1beta1 CSIDriver': '1.22',
  'storage.k8s.io/v1beta1 CSINode': '1.22',
  'storage.k8s.io/v1beta1 StorageClass': '1.22',
  'storage.k8s.io/v1beta1 VolumeAttachment': '1.22',
  'storage.k8s.io/v1beta1 CSIStorageCapacity': '1.27',
  'batch/v2alpha1': '1.21',
  'batch/v1beta1': '1.25',
  'discovery.k8s.io/v1beta1': '1.25',
  'events.k8s.io/v1beta1': '1.25',
  'node.k8s.io/v1beta1': '1.25',
  'policy/v1beta1': '1.25',
  'autoscaling/v2beta1': '1.25',
  'autoscaling/v2beta2': '1.26',
  'flowcontrol.apiserver.k8s.io/v1beta1': '1.26',
  'flowcontrol.apiserver.k8s.io/v1beta2': '1.29',
  'flowcontrol.apiserver.k8s.io/v1beta3': '1.32',
};

/** The first version of Kubernetes that does not serve an object as it is stored; undefined where the newest one does. */
export function droppedIn({ apiVersion, kind }: Pick<Identity, 'apiVersion' | 'kind'>): string | undefined {
  for (const type of [`${apiVersion} ${kind}`, apiVersion]) if (Object.hasOwn(DROPPED, type)) return DROPPED[type];
  return undefined;
}
