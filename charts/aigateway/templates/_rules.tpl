{{/* What the controller may do where it works: in the cluster, or in each namespace of watch.namespaces. */}}
{{- define "aigateway.rules.work" -}}
# What users write. The operator reads it and never changes it.
- apiGroups: [ai-gateway.io]
  resources: [virtualmodels, gatewayconfigs]
  verbs: [list, watch]
# What it says about them.
- apiGroups: [ai-gateway.io]
  resources: [virtualmodels/status, gatewayconfigs/status]
  verbs: [patch]
# Documents and credentials for pods: written. Secrets that resources refer to: read and watched, since a rotated key has to
# reach pods at once. RBAC cannot say "only those it made" or "only those referred to"; watch.namespaces narrows where.
- apiGroups: [""]
  resources: [configmaps, secrets]
  verbs: [get, list, watch, create, update, delete]
# Which pods a gateway has, and an annotation of theirs by which kubelets take up documents at once.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods/status]
  verbs: [patch]
# Transitions, for `kubectl describe`.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
