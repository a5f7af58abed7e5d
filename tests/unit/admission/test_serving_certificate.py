"""The certificate in use: replaced while it is served, refused when it does not fit, and never seen in an error."""

from __future__ import annotations

import asyncio
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aigateway_operator.admission.certificate_files import CertificateFiles
from aigateway_operator.admission.serving_certificate import ServingCertificate
from aigateway_operator.errors import CertificateError, SettingsError
from tests.eventually import eventually_async
from tests.webhooks import Authority, key_pem

AUTHORITY = Authority()
CHAIN, KEY = AUTHORITY.leaf()
_, OTHER_KEY = AUTHORITY.leaf()
ENCRYPTED = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
)


def test_readiness_needs_a_certificate_that_is_valid_now() -> None:
    """None yet, not yet, now, no more: by the clock that is given."""
    now = datetime.now(UTC)
    times = [now]
    certificate = ServingCertificate(now=lambda: times[0])
    assert certificate.why_not_ready() == "no serving certificate yet"
    certificate.use(CHAIN, KEY)
    assert certificate.why_not_ready() is None
    times[0] = now - timedelta(hours=2)
    assert (certificate.why_not_ready() or "").startswith("the serving certificate is valid only from 20")
    times[0] = now + timedelta(hours=2)
    assert (certificate.why_not_ready() or "").startswith("the serving certificate has expired at 20")


@pytest.mark.parametrize(
    ("chain", "key", "text"),
    [
        (b"", KEY, "no PEM certificate"),
        (b"garbage", KEY, "no PEM certificate"),
        (CHAIN[:200], KEY, "no PEM certificate"),
        (CHAIN, b"", "cannot be served"),
        (CHAIN, b"garbage", "cannot be served"),
        (CHAIN, OTHER_KEY, "KEY_VALUES_MISMATCH"),
        (CHAIN, key_pem(ec.generate_private_key(ec.SECP384R1())), "cannot be served"),
        (CHAIN, ENCRYPTED, "cannot be served"),
    ],
)
def test_pair_that_does_not_fit_changes_nothing(chain: bytes, key: bytes, text: str) -> None:
    """What was served is served on; the error names the fault and holds nothing of the key."""
    certificate = ServingCertificate()
    certificate.use(CHAIN, KEY)
    with pytest.raises(CertificateError, match=text) as caught:
        certificate.use(chain, key)
    assert certificate.why_not_ready() is None
    assert certificate.replaced == 1
    shown = "".join(traceback.format_exception(caught.value)) + repr(certificate)
    lines = [line for line in (KEY + b"\n" + key).decode(errors="replace").splitlines() if len(line) > 40]
    assert not [line for line in lines if line in shown]


def test_same_pair_again_is_nothing_new() -> None:
    """A source may hand over what is in use."""
    certificate = ServingCertificate()
    certificate.use(CHAIN, KEY)
    certificate.use(CHAIN, KEY)
    assert certificate.replaced == 1


def test_client_ca_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A setting that is wrong ends the process with the file and the remedy."""
    broken = tmp_path / "ca.pem"
    broken.write_text("nothing")
    for path in (broken, tmp_path / "absent.pem"):
        with pytest.raises(SettingsError, match=f"{path.name} cannot be read.*AIGATEWAY_WEBHOOK_CLIENT_CA"):
            ServingCertificate(client_ca=path)


def _mount(folder: Path, number: int, pair: tuple[bytes, bytes]) -> None:
    """Put a pair into a folder as the kubelet does: a new folder, then one swap of a symlink."""
    data = folder / f"..{number}"
    data.mkdir(parents=True)
    for name, content in zip(("tls.crt", "tls.key"), pair, strict=True):
        (data / name).write_bytes(content)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    swap = folder / "..data_tmp"
    swap.symlink_to(data.name)
    swap.rename(folder / "..data")


async def test_folder_is_followed_from_before_it_is_there(tmp_path: Path) -> None:
    """Absent, mounted, swapped, broken, mended: each good pair is handed over once, in order."""
    folder, used, refused = tmp_path / "tls", list[bytes](), list[bytes]()
    first, second, third = (CHAIN, KEY), AUTHORITY.leaf(), AUTHORITY.leaf()
    certificate = ServingCertificate()

    def use(chain: bytes, key: bytes) -> None:
        try:
            certificate.use(chain, key)
        except CertificateError:
            refused.append(chain)
            raise
        if not used or used[-1] != chain:
            used.append(chain)

    task = asyncio.create_task(CertificateFiles(folder, look_seconds=0.01).run(use))

    async def wait(expected: list[bytes], wrong: bytes | None = None) -> None:
        async def check() -> None:
            assert used == expected
            assert wrong is None or wrong in refused

        await eventually_async(check, within_seconds=20, every_seconds=0.01)

    try:
        _mount(folder, 1, first)
        await wait([first[0]])
        _mount(folder, 2, second)
        await wait([first[0], second[0]])
        _mount(folder, 3, (third[0], KEY))
        await wait([first[0], second[0]], third[0])
        _mount(folder, 4, third)
        await wait([first[0], second[0], third[0]])
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_plain_folder_works_too(tmp_path: Path) -> None:
    """For development: two files, no symlinks."""
    (tmp_path / "tls.crt").write_bytes(CHAIN)
    (tmp_path / "tls.key").write_bytes(KEY)
    used = asyncio.Event()
    task = asyncio.create_task(CertificateFiles(tmp_path).run(lambda chain, key: used.set()))
    await asyncio.wait_for(used.wait(), 20)
    task.cancel()


async def test_pair_is_read_from_one_mount_though_it_is_swapped_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet swaps after the certificate was read and before the key: both are still of the same pair."""
    first, second = (CHAIN, KEY), AUTHORITY.leaf()
    _mount(tmp_path, 1, first)
    pairs: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()
    read, swapped = Path.read_bytes, list[int]()

    def read_and_swap(path: Path) -> bytes:
        content = read(path)
        if not swapped:
            swapped.append(1)
            _mount(tmp_path, 2, second)
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_swap)
    task = asyncio.create_task(CertificateFiles(tmp_path, look_seconds=0.01).run(lambda *pair: pairs.put_nowait(pair)))
    try:
        assert await asyncio.wait_for(pairs.get(), 20) == first
        assert await asyncio.wait_for(pairs.get(), 20) == second
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
