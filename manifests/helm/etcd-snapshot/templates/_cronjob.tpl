{{/*
The common part of all CronJobs. The manifests for kustomize give the reasons, and a test compares the two.
Takes a list: the root, and the differences (see backup.yaml, copy.yaml, drill.yaml, prune.yaml and report.yaml).
*/}}
{{- define "etcd-snapshot.cronjob" -}}
{{- $root := index . 0 -}}
{{- $job := index . 1 -}}
apiVersion: batch/v1
kind: CronJob
metadata:
  name: etcd-snapshot-azure-blob-{{ $job.name }}
  {{- include "etcd-snapshot.metadata" (list $root $job.component) | nindent 2 }}
spec:
  schedule: {{ $job.schedule | quote }}
  {{- if $job.suspend }}
  suspend: true
  {{- end }}
  startingDeadlineSeconds: {{ $job.startingDeadlineSeconds }}
  concurrencyPolicy: Replace
  successfulJobsHistoryLimit: 2
  failedJobsHistoryLimit: 2
  jobTemplate:
    metadata:
      labels:
        {{- include "etcd-snapshot.labels" (list $root $job.component) | nindent 8 }}
    spec:
      # Six attempts, one of them for a drain, which does not count, and the pauses between them.
      activeDeadlineSeconds: {{ add (mul 6 $job.activeDeadlineSeconds) 180 }}
      backoffLimit: 4
      podFailurePolicy:
        rules:
          - action: Ignore
            onPodConditions:
              - { type: DisruptionTarget, status: 'True' }
          - action: FailJob
            onExitCodes: { containerName: snapshot-worker, operator: In, values: {{ toJson $job.finalExitCodes }} }
      template:
        metadata:
          labels:
            {{- if $root.Values.workloadIdentity.clientId }}
            azure.workload.identity/use: 'true'
            {{- end }}
            {{- include "etcd-snapshot.labels" (list $root $job.component) | nindent 12 }}
          {{- with $root.Values.annotations }}
          annotations:
            {{- toYaml . | nindent 12 }}
          {{- end }}
        spec:
          restartPolicy: Never
          activeDeadlineSeconds: {{ $job.activeDeadlineSeconds }}
          serviceAccountName: {{ include "etcd-snapshot.serviceAccount" (list $root $job.component) | quote }}
          automountServiceAccountToken: false
          enableServiceLinks: false
          {{- with $root.Values.imagePullSecrets }}
          imagePullSecrets:
            {{- range . }}
            - name: {{ . | quote }}
            {{- end }}
          {{- end }}
          {{- with $root.Values.priorityClassName }}
          priorityClassName: {{ . | quote }}
          {{- end }}
          terminationGracePeriodSeconds: 10
          {{- toYaml $job.pod | nindent 10 }}
          containers:
            - name: snapshot-worker
              image: {{ include "etcd-snapshot.image" $root | quote }}
              {{- with $root.Values.image.pullPolicy }}
              imagePullPolicy: {{ . }}
              {{- end }}
              {{- with $job.args }}
              args: {{ toJson . }}
              {{- end }}
              terminationMessagePath: /dev/termination-log
              terminationMessagePolicy: FallbackToLogsOnError
              envFrom:
                - secretRef:
                    name: {{ $job.existingSecret | quote }}
              {{- $env := $job.env | default dict }}
              {{- with $root.Values.workloadIdentity }}
              {{- if .clientId }}
              {{- $env = merge (dict
                "SNAPSHOT_AZURE_AUTH" "workload-identity"
                "AZURE_TENANT_ID" .tenantId
                "AZURE_CLIENT_ID" (include "etcd-snapshot.clientId" (list $root $job.component))
                "AZURE_FEDERATED_TOKEN_FILE" "/var/run/secrets/azure/tokens/azure-identity-token") $env }}
              {{- end }}
              {{- end }}
              {{- with $env }}
              env:
                {{- range $name, $value := . }}
                - name: {{ $name }}
                  {{- /* Numbers in YAML are floats here, which would be printed as 1e+06. */}}
                  value: {{ kindIs "float64" $value | ternary (int64 $value) $value | toString | quote }}
                {{- end }}
              {{- end }}
              securityContext:
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
                capabilities:
                  drop: [ALL]
                  {{- with $job.capabilities }}
                  add: {{ toJson . }}
                  {{- end }}
              {{- with $job.resources }}
              resources:
                {{- toYaml . | nindent 16 }}
              {{- end }}
              {{- $mounts := concat ($job.volumeMounts | default list) $root.Values.extraVolumeMounts }}
              {{- $volumes := concat ($job.volumes | default list) $root.Values.extraVolumes }}
              {{- if $root.Values.workloadIdentity.clientId }}
              {{- $token := include "etcd-snapshot.identityToken" . | fromYaml }}
              {{- $mounts = append $mounts $token.mount }}
              {{- $volumes = append $volumes $token.volume }}
              {{- end }}
              {{- with $mounts }}
              volumeMounts:
                {{- toYaml . | nindent 16 }}
              {{- end }}
          {{- with $volumes }}
          volumes:
            {{- toYaml . | nindent 12 }}
          {{- end }}
{{- end }}

{{- define "etcd-snapshot.identityToken" -}}
mount:
  name: azure-identity-token
  mountPath: /var/run/secrets/azure/tokens
  readOnly: true
volume:
  name: azure-identity-token
  projected:
    sources:
      - serviceAccountToken:
          path: azure-identity-token
          audience: api://AzureADTokenExchange
          expirationSeconds: 3600
{{- end }}
