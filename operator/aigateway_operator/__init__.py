"""The AI Gateway Operator: from `VirtualModel` and `GatewayConfig` resources to what gateway pods read.

Rooms, from the bottom up: `errors`, `api`, `render` and `rules`, `plan`, `kube`, `reconcile`, `handlers`, `main`, `cli`.
A room imports only from rooms below its own; import-linter checks it (`pyproject.toml`).
"""

__version__ = "0.1.0"
