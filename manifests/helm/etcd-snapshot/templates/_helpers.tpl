{{/* These take a list: the root, and the component (backup, copy, drill, prune, report). */}}
{{- define "etcd-snapshot.metadata" -}}
{{- $root := index . 0 -}}
{{- $helms := dict
  "app.kubernetes.io/instance" $root.Release.Name
  "app.kubernetes.io/managed-by" $root.Release.Service
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
namespace: {{ $root.Release.Namespace | quote }}
labels:
  {{- merge $helms (include "etcd-snapshot.labels" . | fromYaml) | toYaml | nindent 2 }}
{{- with $root.Values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "etcd-snapshot.labels" -}}
{{- $own := dict "app.kubernetes.io/name" "etcd-snapshot" "app.kubernetes.io/component" (index . 1) -}}
{{- merge $own (index . 0).Values.labels | toYaml }}
{{- end }}

{{- define "etcd-snapshot.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* Each component has its own account, because their permissions in Azure differ. */}}
{{- define "etcd-snapshot.serviceAccount" -}}
{{- $name := (index . 0).Values.serviceAccount.name -}}
{{- $component := index . 1 -}}
{{ $name }}{{ if ne $component "backup" }}-{{ $component }}{{ end }}
{{- end }}

{{- define "etcd-snapshot.clientId" -}}
{{- $identity := (index . 0).Values.workloadIdentity -}}
{{ get $identity (printf "%sClientId" (index . 1)) | default $identity.clientId }}
{{- end }}

{{/*
The clusters as a JSON list: the settings of each merged over those of the release, with the details of its layout, and `suffix`,
the end of the names of its CronJobs. If none is listed, one cluster without a name.
*/}}
{{- define "etcd-snapshot.clusters" -}}
{{- $shared := pick .Values "existingSecret" "layout" "certificates" "schedule" "intervalHours" "timeout" "suspend" "env" "resources" "encryption" "signatures" "bundle" "import" "drill" "prune" "copy" "report" -}}
{{- $layouts := include "etcd-snapshot.layouts" . | fromYaml -}}
{{- $clusters := list -}}
{{- $names := dict -}}
{{- $places := dict -}}
{{- range default (list (dict "name" "")) .Values.clusters -}}
  {{- /* A cluster with its own layout does not inherit certificates, and two sources of certificates are not merged. */ -}}
  {{- $inherited := or (hasKey . "layout") (hasKey . "certificates") | ternary (omit $shared "certificates") $shared -}}
  {{- $cluster := mergeOverwrite (dict "certificates" dict) (deepCopy $inherited) (deepCopy .) -}}
  {{- $_ := set $cluster "layout" (get $layouts $cluster.layout) -}}
  {{- if and $cluster.bundle.enabled $cluster.certificates.secret -}}
    {{- fail "bundle.enabled needs files of the node: it cannot be combined with certificates.secret." -}}
  {{- end -}}
  {{- if $cluster.import.enabled -}}
    {{- if $cluster.certificates.secret -}}
      {{- fail "import.enabled needs files of the node: it cannot be combined with certificates.secret." -}}
    {{- end -}}
    {{- if not ($cluster.import.directory | default $cluster.layout.snapshots) -}}
      {{- fail (printf "import.enabled needs import.directory: with the layout %s there is no default." $cluster.layout.name) -}}
    {{- end -}}
  {{- end -}}
  {{- $_ := set $cluster "suffix" (printf "-%s" .name | trimSuffix "-") -}}
  {{- if and $cluster.report.enabled (gt (len .name) 20) -}}
    {{- fail (printf "With report.enabled a name has at most 20 characters, because that of a CronJob has at most 52: %s has %d." .name (len .name)) -}}
  {{- end -}}
  {{- if hasKey $names .name -}}{{- fail (printf "Two clusters are named %s." .name) -}}{{- end -}}
  {{- $_ := set $names .name true -}}
  {{- if and (not $cluster.schedule) (ge (add $cluster.timeout 150) (mul 3600 $cluster.intervalHours)) -}}
    {{- fail (printf "A timeout of %v s is too long for runs that are %v h apart, because the next run ends this one: use at most %v." $cluster.timeout $cluster.intervalHours (sub (mul 3600 $cluster.intervalHours) 151)) -}}
  {{- end -}}
  {{- $copyPlace := pick $cluster.env "SNAPSHOT_COPY_AZURE_ACCOUNT_NAME" "SNAPSHOT_COPY_AZURE_BLOB_ENDPOINT" "SNAPSHOT_COPY_AZURE_CONTAINER_NAME" "SNAPSHOT_COPY_BLOB_PREFIX" -}}
  {{- $place := pick $cluster.env "SNAPSHOT_AZURE_ACCOUNT_NAME" "SNAPSHOT_AZURE_BLOB_ENDPOINT" "SNAPSHOT_AZURE_CONTAINER_NAME" "SNAPSHOT_BLOB_PREFIX" -}}
  {{- range $component, $secret := dict
      "backup" $cluster.existingSecret
      "drill" ($cluster.drill.enabled | ternary $cluster.drill.existingSecret "")
      "prune" ($cluster.prune.enabled | ternary $cluster.prune.existingSecret "")
      "copy" ($cluster.copy.enabled | ternary $cluster.copy.existingSecret "")
      "report" ($cluster.report.enabled | ternary $cluster.report.existingSecret "") -}}
    {{- if $secret -}}
      {{- $key := list $component $secret (eq $component "copy" | ternary $copyPlace $place) | toJson -}}
      {{- with get $places $key -}}
        {{- fail (printf "The clusters %s and %s use the same Secret for %s, %s, and would store their snapshots in the same place: use another Secret, or set SNAPSHOT_AZURE_CONTAINER_NAME or SNAPSHOT_BLOB_PREFIX in the env of each (for copy, those that begin with SNAPSHOT_COPY_)." . $cluster.name $component $secret) -}}
      {{- end -}}
      {{- $_ := set $places $key $cluster.name -}}
    {{- end -}}
  {{- end -}}
  {{- $clusters = append $clusters $cluster -}}
{{- end -}}
{{- toJson $clusters -}}
{{- end }}

{{/*
A number that depends only on the cluster's name and stays the same when other clusters are added or removed. Modulo the minutes of an
interval, a week or a day, it spreads a fleet evenly. Half an interval is added for drill and prune, so that they run between
two backups.
*/}}
{{- define "etcd-snapshot.hash" -}}
{{ int64 (printf "0x%s" (sha256sum .name | trunc 8)) }}
{{- end }}

{{/* The verification keys, which every component mounts. These take a cluster. */}}
{{- define "etcd-snapshot.verificationEnv" -}}
{{- if .signatures.verificationKeysConfigMap -}}
SNAPSHOT_VERIFICATION_KEYS_FILE: /etc/etcd-snapshot/verification/verification.pem
{{- end }}
{{- end }}

{{- define "etcd-snapshot.verificationMount" -}}
{{- if .signatures.verificationKeysConfigMap -}}
- { name: verification-keys, mountPath: /etc/etcd-snapshot/verification, readOnly: true }
{{- end }}
{{- end }}

{{- define "etcd-snapshot.verificationVolume" -}}
{{- with .signatures.verificationKeysConfigMap -}}
- name: verification-keys
  configMap: { name: {{ . | quote }} }
{{- end }}
{{- end }}

{{/* For pods that need no files of a node: Pod Security "restricted" without an exception. */}}
{{- define "etcd-snapshot.ordinaryPod" -}}
nodeSelector:
  kubernetes.io/os: linux
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- end }}
