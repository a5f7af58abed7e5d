"""A stand-in for a node: pods of Deployments run as processes of this machine, and Services lead to them.

With it a chart is really installed: `helm install --wait` waits for probes that are asked, a rollout replaces one process
after the other, the API server calls the webhook through its Service. It is no kubelet and no container engine: there is no
image, no isolation, no other user, no read-only root, no limit of CPU or memory, and one program only, `aigateway`, the
entry point of both images. A pod's address is one of 127.0.0.0/8, so ports stay what they are. NetworkPolicies, affinity and
disruption budgets are stored and not enforced. Whatever waits longer on a real node (image pulls, back-off of a container that
keeps ending, the first readiness probe) is quicker here. Called by tests/chart and tests that ask for a `Cluster`.

    with Cluster.start() as cluster:
        cluster.helm("install", "aigateway", "charts/aigateway", "-n", "aigateway-system", "--create-namespace", "--wait")
"""

from hack.node.cluster import WORKLOADS, Cluster
from hack.node.node import Node

__all__ = ["WORKLOADS", "Cluster", "Node"]
