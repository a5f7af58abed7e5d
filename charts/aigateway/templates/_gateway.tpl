{{/* GatewayConfig and VirtualModels of the values, as manifests: for the Job, or as objects of the release. */}}

{{/* Labels by which the GatewayConfig finds its pods. */}}
{{- define "aigateway.gateway.podLabels" -}}
{{ include "aigateway.selector" (dict "root" . "component" "gateway") }}
{{- end -}}

{{- define "aigateway.gateway.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
{{- $labels := merge (dict "app.kubernetes.io/part-of" "aigateway") (.root.Values.commonLabels | default dict) }}
labels:
  {{- toYaml $labels | nindent 2 }}
{{- $objects := eq .root.Values.gateway.apply "manifests" }}
{{- if $objects }}
annotations:
  {{- if .root.Values.gateway.keep }}
  helm.sh/resource-policy: keep
  {{- else }}
  ai-gateway.io/allow-delete: "true"     # else the webhook guards a gateway that serves models, and uninstall fails
  {{- end }}
{{- end }}
{{- end -}}

{{- define "aigateway.gateway.manifests" -}}
{{- $selector := dict "delivery" (dict "podSelector" (dict "matchLabels" (include "aigateway.gateway.podLabels" . | fromYaml))) }}
{{- $config := deepCopy (.Values.gateway.config | default dict) }}
{{- if not (dig "delivery" "podSelector" dict $config) }}
{{- $config = merge $config $selector }}
{{- end }}
apiVersion: ai-gateway.io/v1alpha1
kind: GatewayConfig
metadata:
  {{- include "aigateway.gateway.metadata" (dict "root" . "name" .Values.gateway.name) | nindent 2 }}
spec:
  {{- toYaml $config | nindent 2 }}
{{- range $name, $model := .Values.gateway.models }}
---
apiVersion: ai-gateway.io/v1alpha1
kind: VirtualModel
metadata:
  {{- include "aigateway.gateway.metadata" (dict "root" $ "name" $name) | nindent 2 }}
spec:
  gatewayRef: {name: {{ $.Values.gateway.name }}}
  {{- toYaml $model | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Pod template of the Job. Its name holds a hash of this: a Job cannot be changed, only replaced. */}}
{{- define "aigateway.gateway.applyTemplate" -}}
{{- $part := dict "root" . "component" "apply" "values" .Values.gateway }}
metadata:
  labels:
    {{- include "aigateway.selector" $part | nindent 4 }}
    app.kubernetes.io/part-of: aigateway
spec:
  restartPolicy: OnFailure
  serviceAccountName: {{ include "aigateway.gateway" . }}-apply
  automountServiceAccountToken: true
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.gateway.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.gateway.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
  - name: apply
    args: [apply, /manifests, --as, {{ include "aigateway.gateway" . }}, --prune, --timeout, 10m, --namespace, {{ .Release.Namespace }}]
    image: {{ include "aigateway.image" (dict "root" . "image" .Values.image) | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    terminationMessagePolicy: FallbackToLogsOnError
    env:
    - {name: AIGATEWAY_CLUSTER_DOMAIN, value: {{ .Values.clusterDomain | quote }}}
    {{- with .Values.allowAddresses }}
    - {name: AIGATEWAY_ALLOW_ADDRESSES, value: {{ join "," . | quote }}}
    {{- end }}
    securityContext:
      {{- toYaml .Values.securityContext | nindent 6 }}
    resources:
      requests: {cpu: 50m, memory: 96Mi, ephemeral-storage: 16Mi}
      limits: {memory: 256Mi, ephemeral-storage: 64Mi}
    volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: manifests, mountPath: /manifests, readOnly: true}
  volumes:
  - name: tmp
    emptyDir: {sizeLimit: 16Mi}
  - name: manifests
    configMap: {name: {{ include "aigateway.gateway" . }}-manifests}
{{- end -}}
