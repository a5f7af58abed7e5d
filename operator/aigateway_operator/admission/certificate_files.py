"""The serving certificate from a folder, as a Secret of cert-manager is mounted: `tls.crt` and `tls.key`.

Read anew every second: two small files, where a watch would need a thread, misses what happens before it stands, and gains
nothing over the minute the kubelet takes. Both are read through one resolved `..data`, so that they are of one mount.
Fulfils `ports.CertificateSource`; `webhook` joins it to the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loguru import logger

from aigateway_operator.errors import CertificateError

CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"
_MOUNTED: Final = "..data"


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Reads one folder every `look_seconds`."""

    folder: Path
    look_seconds: float = 1.0

    async def run(self, use: Callable[[bytes, bytes], None]) -> None:
        """See `CertificateSource`. A folder that is not there (yet) is waited for."""
        last = "nothing was read yet"
        while True:
            fault = self._hand_over(use)
            if fault != last:
                logger.bind(folder=str(self.folder)).log("ERROR" if fault else "INFO", fault or "Serving certificate read")
                last = fault
            await asyncio.sleep(self.look_seconds)

    def _hand_over(self, use: Callable[[bytes, bytes], None]) -> str:
        """Read the pair and hand it over. Returns what is wrong, "" if nothing is. Small local files: not worth a thread."""
        try:
            use(*self._read())
        except OSError as error:
            return f"The serving certificate cannot be read: {error.filename}: {error.strerror}"
        except CertificateError as error:
            return f"The serving certificate in the folder is not used: {error}"
        return ""

    def _read(self) -> tuple[bytes, bytes]:
        """Read both files from one mount: through the resolved `..data`, which a swap in between does not change."""
        mounted = self.folder / _MOUNTED
        folder = mounted.resolve(strict=True) if mounted.exists() else self.folder
        return (folder / CERTIFICATE).read_bytes(), (folder / KEY).read_bytes()
