"""The URL and host policy: every spelling of an address that clients read differently, with the expected verdict."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from aigateway_operator.rules.addresses import check_host, check_listen_host, check_url, is_forbidden_address
from aigateway_operator.rules.context import RuleContext

CONTEXT = RuleContext("chat")
LOCAL = RuleContext("chat", allow_addresses=(ip_network("127.0.0.0/8"), ip_network("fd00:ec2::/32")))

ACCEPTED_URLS = [
    "https://api.example.com/v1",
    "https://api.example.com",
    "https://api.example.com/",
    "HTTPS://API.Example.COM/v1",
    "https://api.example.com:8443/v1",
    "https://api.example.com:65535/v1",
    "https://api.example.com:1",
    "https://api.example.com/v1/openai/deployments/gpt-4o/",
    "https://api.example.com/a%20b/@x:y;z=1",
    "https://xn--bcher-kva.example/v1",
    "https://bücher.example/v1",
    "https://1password.example/v1",
    "https://a.1b/v1",
    "https://vllm.models/v1",
    "https://8.8.8.8/v1",
    "https://[2606:4700::1111]/v1",
    "https://[2606:4700::1111]:8443/v1",
    "https://[64:ff9b::8.8.8.8]/v1",
    "https://[::ffff:8.8.8.8]/v1",
    "https://[2002:808:808::1]/v1",
    "https://[2001:0:808:808::f7f7:f7f7]/v1",
    "https://10.0.0.7/v1",
    "http://vllm/v1",
    "http://vllm:8000/v1",
    "http://vllm.models.svc/v1",
    "http://vllm.models.svc:8000/v1",
    "http://VLLM.models.SVC:8000/v1",
    "http://0.vllm.models.svc/v1",
    "http://vllm.models.svc.cluster.local:8000/v1",
    "http://10.0.0.7:8000",
    "http://172.16.0.1",
    "http://172.31.255.254",
    "http://192.168.1.1/v1",
    "http://[fd12:3456::10]:8000/v1",
    "http://[fc00::1]/v1",
    "http://[::ffff:10.0.0.7]/v1",
    f"https://{'a' * 63}.example/v1",
]

REFUSED_URLS = [
    # not a URL at all, or of another scheme
    ("api.example.com/v1", "R9"),
    ("//api.example.com/v1", "R9"),
    ("https:api.example.com", "R9"),
    ("https:/api.example.com", "R9"),
    ("https:///api.example.com", "R9"),
    ("https://", "R9"),
    ("https://:443/v1", "R9"),
    (" https://api.example.com", "R9"),
    ("ftp://api.example.com", "R9"),
    ("file:///etc/passwd", "R9"),
    ("gopher://redis.ai.svc:6379/_x", "R9"),
    ("unix://var/run/docker.sock", "R9"),
    ("javascript://api.example.com", "R9"),
    # user name, query, fragment
    ("https://user@api.example.com", "R9"),
    ("https://user:pass@api.example.com/v1", "R9"),
    ("https://api.example.com@169.254.169.254/", "R9"),
    ("https://@api.example.com", "R9"),
    ("https://api.example.com/v1?key=x", "R9"),
    ("https://api.example.com/v1?", "R9"),
    ("https://api.example.com?x@169.254.169.254/", "R9"),
    ("https://api.example.com/v1#x", "R9"),
    ("https://api.example.com#@169.254.169.254/", "R9"),
    # characters that clients strip, or read as another
    ("https://api.example.com\\@169.254.169.254/", "R9"),
    ("https:\\\\api.example.com", "R9"),
    ("https://api.example.com/v1\n", "R9"),
    ("https://api.exa\tmple.com/v1", "R9"),
    ("https://api.example.com /v1", "R9"),
    ("https://api.example.com\x00.evil.example", "R9"),
    ("https://api.example.com/v 1", "R9"),
    ("https://api.example.com/bücher", "R9"),
    ("https://api.example.com/\u2028", "R9"),
    ("https://api.example.com/\ud800", "R9"),
    ("https://api\ud800.example.com/", "R9"),
    ("https://api.example.com/%zz", "R9"),
    ("https://api.example.com/%", "R9"),
    ("https://api.example.com/[1]", "R9"),
    ("https://api.example.com/v1/../admin", "R9"),
    ("https://api.example.com/v1/%2e%2E/admin", "R9"),
    ("https://api.example.com/v1/..", "R9"),
    ("https://api.example.com/./v1", "R9"),
    # names
    ("https://api.example.com./v1", "R9"),
    ("https://api..example.com/v1", "R9"),
    ("https://.example.com/v1", "R9"),
    ("https://-a.example/v1", "R9"),
    ("https://a-.example/v1", "R9"),
    ("https://a_b.example/v1", "R9"),
    ("https://a%2eb.example/v1", "R9"),
    ("https://%31%32%37.0.0.1/v1", "R9"),
    (f"https://{'a' * 64}.example/v1", "R9"),
    (f"https://{'.'.join(['a' * 60] * 5)}/v1", "R9"),
    ("https://xn--a.example/v1", "R9"),
    ("https://xn--.example/v1", "R9"),
    ("https://ab--c.example/v1", "R9"),
    ("https://straße.example/v1", "R9"),
    ("https://faς.example/v1", "R9"),
    ("https://a\u200db.example/v1", "R9"),
    ("https://☃.example/v1", "R9"),
    ("https://BÜCHER.example/v1", "R9"),
    # IDNA dots, full-width digits, circled letters: some clients fold them into ASCII
    ("https://127\u30020\u30020\u30021/v1", "R9"),
    ("https://127\uff0e0\uff0e0\uff0e1/v1", "R9"),
    ("https://\uff11\uff12\uff17.0.0.1/v1", "R9"),
    ("https://169.254.169.\uff12\uff15\uff14/v1", "R9"),
    ("https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/v1", "R9"),
    ("https://loc\u00adalhost/v1", "R9"),
    ("https://127.0.0.\u0661/v1", "R9"),
    # ports
    ("https://api.example.com:/v1", "R9"),
    ("https://api.example.com:0/v1", "R9"),
    ("https://api.example.com:65536/v1", "R9"),
    ("https://api.example.com:99999999999/v1", "R9"),
    ("https://api.example.com:0443/v1", "R9"),
    ("https://api.example.com:+443/v1", "R9"),
    ("https://api.example.com:-1/v1", "R9"),
    ("https://api.example.com:80:80/v1", "R9"),
    ("https://api.example.com:http/v1", "R9"),
    ("https://api.example.com:\u0661/v1", "R9"),
    # spellings of IPv4
    ("https://2852039166/v1", "R9"),
    ("https://0xa9fea9fe/v1", "R9"),
    ("https://0XA9FEA9FE/v1", "R9"),
    ("https://0x/v1", "R9"),
    ("https://025177524776/v1", "R9"),
    ("https://0251.0376.0251.0376/v1", "R9"),
    ("https://0xa9.0xfe.0xa9.0xfe/v1", "R9"),
    ("https://169.254.43518/v1", "R9"),
    ("https://169.16689662/v1", "R9"),
    ("https://127.1/v1", "R9"),
    ("https://127.0.1/v1", "R9"),
    ("https://0/v1", "R9"),
    ("https://1/v1", "R9"),
    ("https://010.0.0.1/v1", "R9"),
    ("https://10.0.0.256/v1", "R9"),
    ("https://10.0.0.0.1/v1", "R9"),
    ("https://10.0.0.1./v1", "R9"),
    ("https://10.0.0.0x1/v1", "R9"),
    ("https://foo.1/v1", "R9"),
    ("https://[127.0.0.1]/v1", "R9"),
    # IPv6
    ("https://::1/v1", "R9"),
    ("https://2606:4700::1111/v1", "R9"),
    ("https://[::1/v1", "R9"),
    ("https://::1]/v1", "R9"),
    ("https://[]/v1", "R9"),
    ("https://[::1]x/v1", "R9"),
    ("https://[fe80::1%25eth0]/v1", "R9"),
    ("https://[fe80::1%eth0]/v1", "R9"),
    ("https://[2606:4700::1111%1]/v1", "R9"),
    ("https://[v1.x]/v1", "R9"),
    ("https://[1::2::3]/v1", "R9"),
    # plain http beyond the cluster
    ("http://api.example.com/v1", "R10"),
    ("HTTP://api.example.com/v1", "R10"),
    ("http://vllm.models/v1", "R10"),
    ("http://8.8.8.8/v1", "R10"),
    ("http://[2606:4700::1111]/v1", "R10"),
    ("http://svc.example.com/v1", "R10"),
    ("http://vllm.models.svc.example.com/v1", "R10"),
    ("http://vllm.models.svc.cluster.local.example.com/v1", "R10"),
    ("http://evilsvc.example/v1", "R10"),
    ("http://vllm.cluster.local/v1", "R10"),
    ("http://[::ffff:8.8.8.8]/v1", "R10"),
    # addresses never allowed
    ("https://127.0.0.1/v1", "R11"),
    ("http://127.255.255.254:8000/v1", "R11"),
    ("http://0.0.0.0/v1", "R11"),
    ("http://0.1.2.3/v1", "R11"),
    ("https://169.254.169.254/latest/meta-data", "R11"),
    ("https://169.254.170.2/v2/credentials", "R11"),
    ("https://169.254.1.1/", "R11"),
    ("https://168.63.129.16/", "R11"),
    ("https://100.100.100.200/", "R11"),
    ("https://100.64.0.1/", "R11"),
    ("https://100.127.255.255/", "R11"),
    ("https://192.0.0.192/", "R11"),
    ("https://192.0.2.1/", "R11"),
    ("https://198.51.100.1/", "R11"),
    ("https://203.0.113.1/", "R11"),
    ("https://198.18.0.1/", "R11"),
    ("https://224.0.0.1/", "R11"),
    ("https://239.255.255.250/", "R11"),
    ("https://240.0.0.1/", "R11"),
    ("https://255.255.255.255/", "R11"),
    ("https://[::]/", "R11"),
    ("https://[::1]/", "R11"),
    ("https://[0:0:0:0:0:0:0:1]/", "R11"),
    ("https://[::ffff:127.0.0.1]/", "R11"),
    ("https://[::ffff:7f00:1]/", "R11"),
    ("https://[::127.0.0.1]/", "R11"),
    ("https://[::2]/", "R11"),
    ("https://[::ffff:0:169.254.169.254]/", "R11"),
    ("https://[64:ff9b::a9fe:a9fe]/", "R11"),
    ("https://[64:ff9b:1::1]/", "R11"),
    ("https://[2002:7f00:1::]/", "R11"),
    ("https://[2002:a9fe:a9fe::1]/", "R11"),
    ("https://[2001:0:7f00:1::808:808]/", "R11"),
    ("https://[2001:0:808:808::80ff:fffe]/", "R11"),
    ("https://[2606:4700::5efe:127.0.0.1]/", "R11"),
    ("https://[2606:4700::200:5efe:7f00:1]/", "R11"),
    ("https://[fe80::1]/", "R11"),
    ("https://[fec0::1]/", "R11"),
    ("https://[ff02::1]/", "R11"),
    ("https://[fd00:ec2::254]/", "R11"),
    ("https://[fd20:ce::254]/", "R11"),
    ("https://[2001:db8::1]/", "R11"),
    ("https://[2001:20::1]/", "R11"),
    ("https://[3fff::1]/", "R11"),
    ("https://[100::1]/", "R11"),
    ("https://[4000::1]/", "R11"),
    # names never allowed
    ("http://localhost/v1", "R11"),
    ("https://LocalHost:8000/v1", "R11"),
    ("https://a.localhost/v1", "R11"),
    ("https://localhost.localdomain/v1", "R11"),
    ("https://ip6-localhost/v1", "R11"),
    ("http://metadata/computeMetadata/v1", "R11"),
    ("https://metadata.google.internal/", "R11"),
    ("https://METADATA.google.internal/", "R11"),
    ("https://x.metadata.google.internal/", "R11"),
    ("https://instance-data/latest", "R11"),
    ("https://instance-data.ec2.internal/latest", "R11"),
    ("https://kubernetes.default.svc/api", "R11"),
    ("https://kubernetes.default.svc.cluster.local/api", "R11"),
]


@pytest.mark.parametrize("url", ACCEPTED_URLS)
def test_url_within_the_policy_is_accepted(url: str) -> None:
    """A rule that refused everything would pass the other table; this one keeps it honest."""
    assert check_url(url, "spec.baseUrl", CONTEXT) == []


@pytest.mark.parametrize(("url", "rule"), REFUSED_URLS)
def test_url_outside_the_policy_is_refused_by_its_rule(url: str, rule: str) -> None:
    """Each is refused at its place, by the expected rule and no other, in printable words."""
    found = check_url(url, "spec.baseUrl", CONTEXT)
    assert {(violation.path, violation.rule) for violation in found} == {("spec.baseUrl", rule)}
    assert all(violation.message.isprintable() for violation in found)


def test_all_faults_of_one_url_come_at_once() -> None:
    """Scheme, query, fragment, characters and host are each named in one answer."""
    found = check_url("ftp://localhost/a b?x#y", "p", CONTEXT)
    words = " ".join(violation.message for violation in found)
    assert len(found) == 5
    assert all(word in words for word in ("https://", "query", "fragment", "not legal", "localhost"))


def test_password_in_a_url_is_never_repeated() -> None:
    """Neither user name nor password reaches a message, even when the host after it is wrong too."""
    for url in ("https://bob:hunter2@localhost/v1", "https://bob:hunter2@[::1/v1?hunter2", "http://hunter2@x.y:0/"):
        assert not any("hunter2" in str(violation) or "bob" in str(violation) for violation in check_url(url, "p", CONTEXT))


def test_http_to_service_and_namespace_names_the_name_with_svc() -> None:
    """`vllm.models` cannot be told from `example.com`; the remedy says what to write, port included."""
    (found,) = check_url("http://vllm.models:8000/v1", "p", CONTEXT)
    assert "vllm.models.svc:8000" in found.message
    (found,) = check_url("http://api.example.com/v1", "p", CONTEXT)
    assert "<service>.<namespace>.svc" in found.message


def test_cluster_domain_of_the_context_decides_what_is_inside() -> None:
    """With another cluster domain, cluster.local is a name like any other."""
    context = RuleContext("chat", cluster_domain="Corp.Example")
    assert check_url("http://vllm.models.svc.corp.example/v1", "p", context) == []
    assert [found.rule for found in check_url("http://vllm.models.svc.cluster.local/v1", "p", context)] == ["R10"]


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost:8000/v1", True),
        ("https://[::ffff:127.0.0.1]/v1", True),
        ("http://[64:ff9b::7f00:1]/v1", True),
        ("https://[fd00:ec2::254]/", True),
        ("http://[::1]/v1", False),
        ("https://169.254.169.254/", False),
        ("https://metadata.google.internal/", False),
        ("https://127.1/v1", False),
    ],
)
def test_allowed_networks_lift_refusals_for_themselves_only(url: str, accepted: bool) -> None:
    """`AIGATEWAY_ALLOW_ADDRESSES` opens what it names, also for http and inside other addresses, and no odd spelling."""
    assert (check_url(url, "p", LOCAL) == []) is accepted


def test_metadata_by_name_is_allowed_only_with_its_address() -> None:
    """Names that mean an address follow that address."""
    context = RuleContext("chat", allow_addresses=(ip_network("169.254.169.254/32"),))
    assert check_url("http://metadata/v1", "p", context) == []
    assert check_url("http://localhost/v1", "p", context) != []


@pytest.mark.parametrize(
    "host",
    [
        "mongodb",
        "mongodb.ai.svc",
        "mongodb.ai",
        "db.example.com",
        "10.0.0.7",
        "8.8.8.8",
        "fd12::1",
        "2606:4700::1111",
        "bücher.example",
    ],
)
def test_bare_host_is_accepted(host: str) -> None:
    """Names and addresses stand alone; no scheme decides, so public names and private addresses both pass."""
    assert check_host(host, "spec.storage.redis.host", CONTEXT) == []


@pytest.mark.parametrize(
    ("host", "rule", "word"),
    [
        ("redis://redis.ai.svc", "R12", "scheme"),
        ("mongodb+srv://u:p@cluster0", "R12", "scheme"),
        ("user:hunter2@redis", "R12", "user name"),
        ("redis/0", "R12", "path"),
        ("redis?x", "R12", "path"),
        ("redis\\x", "R12", "path"),
        ("redis:6379", "R12", "port"),
        ("redis:", "R12", "port"),
        ("10.0.0.7:6379", "R12", "port"),
        ("[fd12::1]:6379", "R12", "port"),
        ("[fd12::1]", "R12", "brackets"),
        ("redis,redis2", "R9", "host name"),
        ("redis redis2", "R9", "host name"),
        ("redis\n", "R9", "host name"),
        ("redis.", "R9", "dot"),
        ("", "R9", "missing"),
        ("fd12::1%eth0", "R9", "zone"),
        ("fd12:::1", "R9", "IPv6"),
        ("a:b:c", "R9", "IPv6"),
        ("127.1", "R9", "plain IPv4"),
        ("127.0.0.1", "R11", "loopback"),
        ("::1", "R11", "loopback"),
        ("localhost", "R11", "loopback"),
        ("169.254.169.254", "R11", "metadata"),
        ("metadata.google.internal", "R11", "metadata"),
    ],
)
def test_host_with_anything_around_it_or_a_forbidden_address_is_refused(host: str, rule: str, word: str) -> None:
    """One violation, that says what is too much; a password in it is not repeated."""
    (found,) = check_host(host, "spec.storage.redis.host", CONTEXT)
    assert (found.path, found.rule) == ("spec.storage.redis.host", rule)
    assert word in found.message
    assert "hunter2" not in found.message


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "127.0.0.1", "localhost", "10.0.0.7"])
def test_gateway_may_listen_on_any_address(host: str) -> None:
    """What nobody may connect to is still fine to listen on."""
    assert check_listen_host(host, "spec.app.host", CONTEXT) == []


@pytest.mark.parametrize("host", ["0", "http://0.0.0.0", "0.0.0.0:8000", "[::]", "a b"])
def test_gateway_listens_on_a_bare_host_only(host: str) -> None:
    """Ports, schemes and odd spellings are refused here too."""
    assert len(check_listen_host(host, "spec.app.host", CONTEXT)) == 1


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("8.8.8.8", None),
        ("10.255.255.255", None),
        ("172.32.0.1", None),
        ("192.167.255.255", None),
        ("11.0.0.0", None),
        ("126.255.255.255", None),
        ("128.0.0.0", None),
        ("100.63.255.255", None),
        ("100.128.0.0", None),
        ("198.17.255.255", None),
        ("198.20.0.0", None),
        ("223.255.255.255", None),
        ("fdff::1", None),
        ("2000::1", None),
        ("2002:808:808::", None),
        ("127.0.0.1", "loopback"),
        ("100.64.0.0", "carrier"),
        ("192.88.99.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("255.255.255.254", "reserved"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fec0::1", "site-local"),
        ("::ffff:169.254.169.254", "metadata"),
        ("2002:7f00:1::", "127.0.0.1 inside"),
        ("3ffe:ffff::1", None),
        ("4000::", "reserved"),
    ],
)
def test_address_is_judged_by_its_range(text: str, word: str | None) -> None:
    """Both ends of ranges: an off-by-one in a table turns a line red."""
    reason = is_forbidden_address(ip_address(text), CONTEXT)
    assert reason is None if word is None else reason is not None and word in reason
