"""Names that stand on the wire: group, kinds, labels, annotations. Each is written here and nowhere else."""

from __future__ import annotations

from typing import Final, NamedTuple

GROUP: Final = "ai-gateway.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "ai-gateway"

VIRTUAL_MODEL: Final = "VirtualModel"
VIRTUAL_MODELS: Final = "virtualmodels"
GATEWAY_CONFIG: Final = "GatewayConfig"
GATEWAY_CONFIGS: Final = "gatewayconfigs"

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
"""On everything the operator makes; our watches select by it. Never copied from a user's object."""
MANAGED_BY: Final = "aigateway-operator"
GATEWAY_LABEL: Final = f"{GROUP}/gateway"
"""Name of the GatewayConfig that a generated object belongs to; 63 characters at most, hence the limit on that name."""

APPLIED_BY_LABEL: Final = f"{GROUP}/applied-by"
"""On what `aigateway apply --as NAME` applied: by it, and in one namespace, it finds what its files no longer hold."""

PROTECTED_ANNOTATION: Final = f"{GROUP}/protected"
ALLOW_DELETE_ANNOTATION: Final = f"{GROUP}/allow-delete"
CONFIG_REVISION_ANNOTATION: Final = f"{GROUP}/config-revision"

FIELD_MANAGER: Final = "aigateway-operator"
MAX_GATEWAY_NAME: Final = 63


class GatewayKey(NamedTuple):
    """One gateway, whether or not a GatewayConfig of that name exists: the unit of reconciliation."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ObjectKey(NamedTuple):
    """A namespaced object of a kind that the context names."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
