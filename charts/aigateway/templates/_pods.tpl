{{/* Parts of pods that the components share. Each takes root, component and values (those of the component). */}}

{{/* Metadata of a pod template. */}}
{{- define "aigateway.pod.metadata" -}}
labels:
  {{- include "aigateway.labels" . | nindent 2 }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What a pod says of where and as whom it runs. */}}
{{- define "aigateway.pod.placement" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
enableServiceLinks: false
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $several := or (kindIs "invalid" .values.replicas) (gt (int .values.replicas) 1) }}
{{- if .values.affinity }}
affinity:
  {{- toYaml .values.affinity | nindent 2 }}
{{- else if $several }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "aigateway.selector" . | nindent 12 }}
{{- end }}
{{- if .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
{{- else if $several }}
topologySpreadConstraints:
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "aigateway.selector" $ | nindent 6 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Image and rights of a container. */}}
{{- define "aigateway.container" -}}
{{- $image := ternary .root.Values.gateway.image .root.Values.image (eq .component "gateway") -}}
image: {{ include "aigateway.image" (dict "root" .root "image" $image) | quote }}
imagePullPolicy: {{ $image.pullPolicy | default .root.Values.image.pullPolicy }}
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
resources:
  {{- toYaml .values.resources | nindent 2 }}
{{- end -}}

{{/* Settings that controller and webhook share. */}}
{{- define "aigateway.env" -}}
{{- $root := .root -}}
- name: AIGATEWAY_LEASE_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- {name: AIGATEWAY_CLUSTER_DOMAIN, value: {{ $root.Values.clusterDomain | quote }}}
{{- with $root.Values.allowAddresses }}
- {name: AIGATEWAY_ALLOW_ADDRESSES, value: {{ join "," . | quote }}}
{{- end }}
- {name: AIGATEWAY_WEBHOOK_CERTIFICATES, value: {{ include "aigateway.webhook.certificates" $root | quote }}}
{{- if include "aigateway.webhook.any" $root }}
- {name: AIGATEWAY_WEBHOOK_CONFIGURATION, value: {{ include "aigateway.operator" $root }}}
- {name: AIGATEWAY_WEBHOOK_SERVICE, value: {{ include "aigateway.webhook" $root }}}
- {name: AIGATEWAY_WEBHOOK_SECRET_NAME, value: {{ include "aigateway.certificates" $root }}}
- {name: AIGATEWAY_WEBHOOK_PORT, value: {{ $root.Values.webhook.port | quote }}}
- {name: AIGATEWAY_WEBHOOK_DRAIN_SECONDS, value: {{ $root.Values.webhook.drainSeconds | quote }}}
{{- end }}
- {name: AIGATEWAY_HEALTH_PORT, value: {{ $root.Values.metrics.port | quote }}}
- {name: AIGATEWAY_LOG_LEVEL, value: {{ $root.Values.logs.level }}}
- {name: AIGATEWAY_LOG_FORMAT, value: {{ $root.Values.logs.format }}}
{{- if include "aigateway.logs.folder" $root }}
- {name: AIGATEWAY_LOG_SYSTEM_LEVEL, value: {{ $root.Values.logs.system.level }}}
- {name: AIGATEWAY_LOG_OPERATION_LEVEL, value: {{ $root.Values.logs.operation.level }}}
- {name: AIGATEWAY_LOG_SYSTEM_RETENTION_DAYS, value: {{ $root.Values.logs.system.retentionDays | quote }}}
- {name: AIGATEWAY_LOG_OPERATION_RETENTION_DAYS, value: {{ $root.Values.logs.operation.retentionDays | quote }}}
{{- end }}
{{- if $root.Values.logs.files.enabled }}
- {name: AIGATEWAY_LOG_DIR, value: /var/lib/aigateway/logs}
- {name: AIGATEWAY_LOG_FILES_FORMAT, value: {{ $root.Values.logs.files.format }}}
{{- end }}
{{- if $root.Values.logs.mongodb.existingSecret }}
- {name: AIGATEWAY_LOG_SPOOL_DIR, value: /var/lib/aigateway/spool}
- {name: AIGATEWAY_LOG_SPOOL_MEBIBYTES, value: {{ $root.Values.logs.mongodb.spoolMebibytes | quote }}}
- {name: AIGATEWAY_LOG_MONGODB_URI_FILE, value: /etc/aigateway/mongodb/uri}
- {name: AIGATEWAY_LOG_MONGODB_DATABASE, value: {{ $root.Values.logs.mongodb.database | quote }}}
- {name: AIGATEWAY_LOG_MONGODB_INDEXES, value: {{ $root.Values.logs.mongodb.indexes | quote }}}
{{- end }}
{{- end -}}

{{- define "aigateway.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if include "aigateway.logs.folder" .root }}
- {name: logs, mountPath: /var/lib/aigateway}
{{- end }}
{{- if .root.Values.logs.mongodb.existingSecret }}
- {name: mongodb, mountPath: /etc/aigateway/mongodb, readOnly: true}
{{- end }}
{{- with .values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "aigateway.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- if and (include "aigateway.logs.folder" .root) (not .root.Values.logs.volume.persistent) }}
- name: logs
  emptyDir: {sizeLimit: {{ .root.Values.logs.volume.size }}}
{{- end }}
{{- with .root.Values.logs.mongodb }}
{{- if .existingSecret }}
- name: mongodb
  secret:
    secretName: {{ .existingSecret }}
    optional: true                       # may come later: logs never keep the operator from starting
    items: [{key: {{ .key | quote }}, path: uri}]
{{- end }}
{{- end }}
{{- with .values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Liveness and readiness of controller and webhook. A first start on a busy node takes seconds: the startup probe waits. */}}
{{- define "aigateway.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end -}}

{{/* A volume for each replica, which stays when its pod goes. */}}
{{- define "aigateway.volumeClaims" -}}
persistentVolumeClaimRetentionPolicy:
  whenDeleted: {{ .root.Values.logs.volume.whenDeleted }}
  whenScaled: Retain
volumeClaimTemplates:
- metadata:
    name: logs
    labels:
      {{- include "aigateway.selector" . | nindent 6 }}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .root.Values.logs.volume.storageClassName }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests: {storage: {{ .root.Values.logs.volume.size }}}
{{- end -}}
