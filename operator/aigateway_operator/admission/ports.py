"""What the webhook role needs from outside of it: a certificate, and somebody who keeps records of its decisions.

The server knows these Protocols only; `main` hands it a source: files of a folder (`certificate_files.py`, a mount of
cert-manager) or the Secret that the leader keeps (an adapter in `kube/`), and the process's logs. Must not import any room.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from aigateway_logs import OperationRecord


class CertificateSource(Protocol):
    """Where the serving certificate comes from, for as long as the process runs."""

    async def run(self, use: Callable[[bytes, bytes], None]) -> None:
        """Call `use(certificate_chain_pem, key_pem)` once there is a pair, and again whenever it changes; never returns.

        Runs in the loop of the server, as one task that is cancelled at the end; `use` is quick, is called in that loop, and
        raises CertificateError (errors.py) for a pair it cannot serve: the source logs it, goes on, and the server keeps
        what it has. Outages of the origin are the source's to survive: it retries and keeps silent, since the pair in use is
        still good.
        """
        ...


class Journal(Protocol):
    """Keeps records. `aigateway_logs.DualLog` fulfils it."""

    @property
    def keeps_operations(self) -> bool:
        """Whether records go anywhere now."""
        ...

    async def operation_written(self, record: OperationRecord) -> bool:
        """Return once the record survives this process, within 50 ms in any case; False: it may not. Never raises."""
        ...
