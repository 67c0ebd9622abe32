{{/*
Where installers keep etcd's client certificate (src/etcd/tls.ts finds it there by itself), and which nodes have it. All but the
first mount three files and not their directory, which also contains the keys of etcd's certificate authorities. `keys` is what
`bundle.enabled` mounts, `capabilities` what it needs to read them, and `snapshots` what `import.enabled` mounts.
*/}}
{{- define "etcd-snapshot.layouts" -}}
aks-engine:
  name: aks-engine
  keys: { keys: { path: /etc/kubernetes, type: Directory } }
  # etcdserver.key and etcdpeer….key belong to etcd, mode 0600.
  capabilities: [DAC_OVERRIDE]
  directory: /etc/kubernetes/certs
  {{- include "etcd-snapshot.controlPlane" . | nindent 2 }}
kubeadm:
  name: kubeadm
  keys: { keys: { path: /etc/kubernetes, type: Directory } }
  files:
    ca: /etc/kubernetes/pki/etcd/ca.crt
    cert: /etc/kubernetes/pki/etcd/healthcheck-client.crt
    key: /etc/kubernetes/pki/etcd/healthcheck-client.key
  {{- include "etcd-snapshot.controlPlane" . | nindent 2 }}
k3s:
  name: k3s
  snapshots: /var/lib/rancher/k3s/server/db/snapshots
  keys:
    keys-cred: { path: /var/lib/rancher/k3s/server/cred, type: Directory }
    keys-tls: { path: /var/lib/rancher/k3s/server/tls, type: Directory }
    keys-token: { path: /var/lib/rancher/k3s/server/token, type: File }
  files:
    ca: /var/lib/rancher/k3s/server/tls/etcd/server-ca.crt
    cert: /var/lib/rancher/k3s/server/tls/etcd/client.crt
    key: /var/lib/rancher/k3s/server/tls/etcd/client.key
  {{- include "etcd-snapshot.rancherServers" . | nindent 2 }}
rke2:
  name: rke2
  snapshots: /var/lib/rancher/rke2/server/db/snapshots
  keys:
    keys-cred: { path: /var/lib/rancher/rke2/server/cred, type: Directory }
    keys-manifests: { path: /var/lib/rancher/rke2/agent/pod-manifests, type: Directory }
    keys-tls: { path: /var/lib/rancher/rke2/server/tls, type: Directory }
    keys-token: { path: /var/lib/rancher/rke2/server/token, type: File }
  files:
    ca: /var/lib/rancher/rke2/server/tls/etcd/server-ca.crt
    cert: /var/lib/rancher/rke2/server/tls/etcd/server-client.crt
    key: /var/lib/rancher/rke2/server/tls/etcd/server-client.key
  {{- include "etcd-snapshot.rancherServers" . | nindent 2 }}
{{- end }}

{{- define "etcd-snapshot.controlPlane" -}}
# Either label: the first since Kubernetes 1.20, the second until 1.23.
nodes: [node-role.kubernetes.io/control-plane, node-role.kubernetes.io/master]
tolerations:
  - { key: node-role.kubernetes.io/control-plane, operator: Exists, effect: NoSchedule }
  - { key: node-role.kubernetes.io/master, operator: Exists, effect: NoSchedule }
{{- end }}

{{- define "etcd-snapshot.rancherServers" -}}
# A control-plane server without the role etcd has no certificate for etcd.
nodes: [node-role.kubernetes.io/etcd]
tolerations:
  - { key: node-role.kubernetes.io/control-plane, operator: Exists }
  - { key: node-role.kubernetes.io/master, operator: Exists }
  - { key: node-role.kubernetes.io/etcd, operator: Exists }
  - { key: CriticalAddonsOnly, operator: Exists }
{{- end }}
