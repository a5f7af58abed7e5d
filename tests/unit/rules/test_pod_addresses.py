"""Which pods are asked what they run, by their address: rules/ranges.py."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from aigateway_operator.rules import RuleContext
from aigateway_operator.rules.ranges import is_forbidden_pod_address

NOTHING_ALLOWED = RuleContext("")


@pytest.mark.parametrize(
    "text",
    ["10.244.0.7", "192.168.3.4", "100.64.1.2", "100.127.255.254", "198.18.0.9", "240.0.0.5", "192.0.2.7", "34.118.0.9",
     "fd00::12", "2600:1f13::7", "::ffff:100.64.1.2"],
)  # fmt: skip
def test_pod_of_any_range_that_clusters_use_is_asked(text: str) -> None:
    """EKS and GKE give pods carriers', benchmarks' and reserved addresses, none of which may stand in a resource."""
    assert is_forbidden_pod_address(ip_address(text), NOTHING_ALLOWED) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [("127.0.0.1", "loopback"), ("::1", "loopback"), ("::ffff:127.0.0.1", "loopback"), ("64:ff9b::7f00:1", "loopback"),
     ("0.0.0.0", "unspecified"), ("::", "unspecified"), ("169.254.1.1", "link-local"), ("fe80::1", "link-local"),
     ("224.0.0.1", "multicast"), ("ff02::1", "multicast"), ("255.255.255.255", "broadcast"),
     ("169.254.169.254", "metadata"), ("168.63.129.16", "metadata"), ("100.100.100.200", "metadata"),
     ("::ffff:169.254.169.254", "metadata"), ("fd00:ec2::254", "metadata")],
)  # fmt: skip
def test_address_that_no_pod_has_is_not_asked(text: str, why: str) -> None:
    """A status that names the operator's own machine, or a service that hands out credentials, leads nowhere."""
    reason = is_forbidden_pod_address(ip_address(text), NOTHING_ALLOWED)
    assert reason is not None
    assert why in reason


def test_setting_lifts_a_refusal() -> None:
    """Tests and demos run pods on loopback addresses."""
    context = RuleContext("", allow_addresses=(ip_network("127.0.0.0/8"),))
    assert is_forbidden_pod_address(ip_address("127.0.0.9"), context) is None
    assert is_forbidden_pod_address(ip_address("::ffff:127.0.0.9"), context) is None
    assert is_forbidden_pod_address(ip_address("169.254.1.1"), context) is not None
