"""A kubelet's share in delivery, without nodes: mounted volumes that follow ConfigMaps and Secrets, and pods that read them.

A control plane of one's own stores pods and runs none. `KubeletVolumes` materialises their volumes exactly as a kubelet
does (one atomic swap of `..data`, timed as measured on a real one), `StandInPod` is a Pod object with a process behind it.
Knows nothing of this project's kinds. Called by tests and the demo.
"""

from hack.kubelet.pods import StandInPod, loopback_address
from hack.kubelet.timing import FAST, REAL, Timing
from hack.kubelet.volumes import KubeletVolumes

__all__ = ["FAST", "REAL", "KubeletVolumes", "StandInPod", "Timing", "loopback_address"]
