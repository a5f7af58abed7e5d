"""Ask one pod over HTTP what it runs: small, short, and of nobody but that pod.

No names are resolved, no redirects followed, no proxies or cookies used, nothing decompressed; two seconds and 64 KiB at most.
Connections are not kept: in a pod of several workers the next answer may be another worker's to give.
Fulfils `Ask` of `rollout.ports`; wired and closed by `main`.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import Final

import aiohttp

from aigateway_config.documents import STATUS_PATH
from aigateway_operator.plan.proof import PodState
from aigateway_operator.rollout.answers import Misanswered, Outcome, Silent, parse_answer
from aigateway_operator.rules import RuleContext
from aigateway_operator.rules.ranges import is_forbidden_pod_address

TIMEOUT_SECONDS: Final = 2.0
MAX_BODY_BYTES: Final = 64 * 1024
_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "aigateway-operator"}
_OK: Final = 200


class HttpAsker:
    """Asks pods. `context`: for the address policy. Use it inside a running loop and `close` it there."""

    def __init__(self, context: RuleContext, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._context = context
        self._timeout_seconds = timeout_seconds
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, pod: PodState, port: int) -> Outcome:
        """Ask one pod; raises nothing."""
        refused = self._refusal(pod)
        if refused is not None:
            return Silent(refused)
        host = f"[{pod.ip}]" if ":" in (pod.ip or "") else pod.ip
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._get(f"http://{host}:{port}{STATUS_PATH}")
        except TimeoutError:
            return Silent(f"gives no answer on port {port} within {self._timeout_seconds:g} s")
        except aiohttp.ClientConnectorError:
            return Silent(f"accepts no connection on port {port}")
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError, OSError):
            return Silent(f"closes the connection on port {port} without a whole answer")
        except (aiohttp.ClientError, ValueError):
            return Misanswered(f"does not speak HTTP as agreed on port {port}")

    async def close(self) -> None:
        """Close what is open."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _refusal(self, pod: PodState) -> str | None:
        """Return why a pod is not asked at all, None if it is."""
        if pod.host_network:
            # Its address is the node's: the port may be anybody's, and what answers need not be the pod.
            return "uses hostNetwork and is not asked: whoever answers at its address need not be the pod"
        if pod.ip is None:
            return "has no address yet"
        try:
            reason = is_forbidden_pod_address(ip_address(pod.ip), self._context)
        except ValueError:
            return "has an address that is none"
        if reason is None:
            return None
        return f"has an address that is refused, {reason}; AIGATEWAY_ALLOW_ADDRESSES can allow it"

    async def _get(self, url: str) -> Outcome:
        session = self._open()
        async with session.get(url, allow_redirects=False) as response:
            if response.status != _OK:
                return Misanswered(f"answers {response.status} instead of {_OK}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    return Misanswered(f"answers with more than {MAX_BODY_BYTES // 1024} KiB")
        return parse_answer(bytes(body))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._timeout_seconds),
                trust_env=False,
                auto_decompress=False,
                headers=_HEADERS,
            )
        return self._session
