"""Every command on a page is run as it stands, against a real API server with the operator, and prints what the page says.

A page is one story: its blocks run in order. A page that deletes what others share has a control plane of its own.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.controlplane import NEEDED, ControlPlane
from hack.operatorprocess import OperatorProcess
from tests.conftest import require_binaries
from tests.docs.pages import PAGES, ROOT, blocks, given
from tests.docs.reader import EXAMPLE_NAMESPACE, environment_of, follow, remove_namespace

pytestmark = pytest.mark.apiserver

RUN = [page for page in PAGES if any(block.not_run_because is None for block in blocks(page, "bash"))]
RECOVERY = ROOT / "docs" / "recovery.md"
"""It deletes CRDs, which tests of the same process share."""
SHARING = sorted(set(RUN) - {RECOVERY}, key=lambda page: (given(page) is None, page))
"""Those that begin with an example come first, one after the other: they share its namespace."""


@pytest.fixture(scope="module")
def operator(plane: ControlPlane) -> Iterator[OperatorProcess]:
    """The operator under its own ServiceAccount, for the namespace of the examples, which is gone afterwards."""
    with OperatorProcess.start(plane, settings={"AIGATEWAY_NAMESPACES": EXAMPLE_NAMESPACE}) as started:
        yield started
    remove_namespace(plane)


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("page", SHARING, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_print_what_it_says(page: Path, plane: ControlPlane, tmp_path: Path) -> None:
    """A reader who types every command in order sees what the page shows."""
    follow(page, plane, environment_of(plane, tmp_path))


@pytest.mark.timeout(180)
def test_commands_of_the_recovery_page_bring_everything_back(tmp_path: Path) -> None:
    """A deleted gateway, lost documents, deleted CRDs and a deleted namespace: what the page says mends each."""
    with (
        ControlPlane.start(binaries=require_binaries(NEEDED), crds=[ROOT / "crds"]) as plane,
        OperatorProcess.start(plane, settings={"AIGATEWAY_NAMESPACES": EXAMPLE_NAMESPACE}),
    ):
        follow(RECOVERY, plane, environment_of(plane, tmp_path))


def test_pages_that_are_meant_to_be_followed_are_followed() -> None:
    """They have commands that are run."""
    names = {str(page.relative_to(ROOT)) for page in RUN}
    followed = {"quickstart", "install", "upgrade", "recovery", "security", "troubleshooting", "other-languages"}
    assert {f"docs/{name}.md" for name in followed} | {"examples/01-quickstart/README.md"} <= names
