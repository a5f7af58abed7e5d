"""The kinds this operator speaks to the API server about, and their paths. Pure; used by every room that names a kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aigateway_operator.api import meta

JsonObject = dict[str, Any]
"""An object of the API server as it stands on the wire."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object. `group` is "" for the core group, `plural` the name in paths."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """What objects carry as `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def collection_path(self, namespace: str | None) -> str:
        """Return the path of all objects in a namespace; None: in the whole cluster."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if namespace is None or not self.namespaced:
            return f"{root}/{self.plural}"
        return f"{root}/namespaces/{namespace}/{self.plural}"

    def object_path(self, namespace: str, name: str, subresource: str | None = None) -> str:
        """Return the path of one object, or of a subresource such as `status`."""
        path = f"{self.collection_path(namespace)}/{name}"
        return path if subresource is None else f"{path}/{subresource}"


VIRTUAL_MODELS: Final = Resource(meta.GROUP, meta.VERSION, meta.VIRTUAL_MODELS, meta.VIRTUAL_MODEL)
GATEWAY_CONFIGS: Final = Resource(meta.GROUP, meta.VERSION, meta.GATEWAY_CONFIGS, meta.GATEWAY_CONFIG)
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS: Final = Resource("", "v1", "secrets", "Secret")
PODS: Final = Resource("", "v1", "pods", "Pod")
NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS: Final = Resource("events.k8s.io", "v1", "events", "Event")
VALIDATING_WEBHOOKS: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)
ACCESS_REVIEWS: Final = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
SUBJECT_REVIEWS: Final = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False)
CUSTOM_RESOURCES: Final = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
