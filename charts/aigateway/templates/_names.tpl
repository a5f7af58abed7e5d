{{/* Names, labels and images. Nothing here looks at the cluster: rendering is the same everywhere. */}}

{{/* What every object's name begins with. `helm install aigateway` gives names that begin with aigateway. */}}
{{- define "aigateway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains "aigateway" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-aigateway" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "aigateway.operator" -}}{{ include "aigateway.fullname" . }}-operator{{- end -}}
{{- define "aigateway.webhook" -}}{{ include "aigateway.fullname" . }}-webhook{{- end -}}
{{- define "aigateway.gateway" -}}{{ include "aigateway.fullname" . }}-gateway{{- end -}}
{{- define "aigateway.certificates" -}}{{ include "aigateway.webhook" . }}-certificates{{- end -}}

{{/* Label app.kubernetes.io/name of a component: NetworkPolicies that `aigateway mount` prints name aigateway-operator. */}}
{{- define "aigateway.name" -}}
{{- if eq .component "gateway" -}}aigateway-gateway{{- else -}}aigateway-operator{{- end -}}
{{- end -}}

{{/* Labels by which a component's pods are selected; they never change. Takes root and component. */}}
{{- define "aigateway.selector" -}}
app.kubernetes.io/name: {{ include "aigateway.name" . }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of every object. Takes root and component. */}}
{{- define "aigateway.labels" -}}
{{ include "aigateway.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: aigateway
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* ServiceAccount of a component. Takes root, component and its values. */}}
{{- define "aigateway.account" -}}
{{- if .values.serviceAccount.name -}}
{{- .values.serviceAccount.name -}}
{{- else if .values.serviceAccount.create -}}
{{- include (printf "aigateway.%s" (eq .component "controller" | ternary "operator" .component)) .root -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* Reference of an image. Takes root and image; what image leaves empty is taken from .Values.image. */}}
{{- define "aigateway.image" -}}
{{- $registry := .image.registry | default .root.Values.image.registry -}}
{{- $tag := .image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- $name := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") -}}
{{- if .image.digest -}}{{ $name }}@{{ .image.digest }}{{- else -}}{{ $name }}:{{ $tag }}{{- end -}}
{{- end -}}

{{/* "true" where the webhook is served by pods of its own, or by the controller's. */}}
{{- define "aigateway.webhook.separate" -}}
{{- if and .Values.operator.enabled (eq .Values.webhook.mode "separate") }}true{{ end -}}
{{- end -}}
{{- define "aigateway.webhook.inController" -}}
{{- if and .Values.operator.enabled (eq .Values.webhook.mode "controller") }}true{{ end -}}
{{- end -}}
{{- define "aigateway.webhook.any" -}}
{{- if and .Values.operator.enabled (ne .Values.webhook.mode "none") }}true{{ end -}}
{{- end -}}

{{/* Where certificates of the webhook come from, in the operator's words: self, files or off. */}}
{{- define "aigateway.webhook.certificates" -}}
{{- if not (include "aigateway.webhook.any" .) -}}
off
{{- else if eq .Values.webhook.certificates "cert-manager" -}}
files
{{- else -}}
self
{{- end -}}
{{- end -}}

{{/* "true" where logs need a folder. */}}
{{- define "aigateway.logs.folder" -}}
{{- if or .Values.logs.files.enabled .Values.logs.mongodb.existingSecret }}true{{ end -}}
{{- end -}}

{{/* Deployment, or StatefulSet where each replica keeps a volume of its own for logs. */}}
{{- define "aigateway.workload" -}}
{{- if and (include "aigateway.logs.folder" .) .Values.logs.volume.persistent -}}StatefulSet{{- else -}}Deployment{{- end -}}
{{- end -}}

{{/* watch.namespaceSelector as text, as `kubectl -l` takes it: the program reads that, the webhook's configuration the object. */}}
{{- define "aigateway.namespaceSelector" -}}
{{- $terms := list }}
{{- range $key, $value := .Values.watch.namespaceSelector.matchLabels }}
{{- $terms = append $terms (printf "%s=%s" $key $value) }}
{{- end }}
{{- range .Values.watch.namespaceSelector.matchExpressions }}
{{- if eq .operator "Exists" }}
{{- $terms = append $terms .key }}
{{- else if eq .operator "DoesNotExist" }}
{{- $terms = append $terms (printf "!%s" .key) }}
{{- else }}
{{- $terms = append $terms (printf "%s %s (%s)" .key (lower .operator) (join "," .values)) }}
{{- end }}
{{- end }}
{{- join "," $terms -}}
{{- end -}}
