"""A folder instead of a cluster: rendered objects kept as the files that pods mount, and a watch on manifests.

Stands where `kube` stands when there is no API server: files in and out, nothing of rules, plans or rounds. Must not import
kopf or the Kubernetes client. Called by `aigateway local`.
"""
