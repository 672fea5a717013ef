"""A city to enrol with, an installed device, and a way to call the command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from provisioning.cli import main
from tests.provisioning.enrolment_city import CLAIM, EnrolmentCity

LANE = "north:mock:north-in=in:school:relay=17:rotation=27/up"
READER = "r1:serial:/dev/serial/by-path/pci-0:1:id12:access_point=north-in"

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("MOSKVENOK_CONFIG", raising=False)
    monkeypatch.delenv("MOSKVENOK_CLAIM", raising=False)
    # A table folds words by the length of the folder's name, which grows with each run.
    monkeypatch.setenv("COLUMNS", "400")

    def call(*args: object) -> Result:
        return CliRunner().invoke(main, [str(arg) for arg in args])

    return call


@pytest.fixture(scope="session", autouse=True)
def _without_a_tpm() -> Iterator[None]:
    """A TPM of the machine that runs the tests is not theirs (`tests/process/test_tpm.py`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge.tpm.DEVICE", Path("/nonexistent/tpm"))
        patch.delenv("TPM2OPENSSL_TCTI", raising=False)
        yield


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[EnrolmentCity, Path]:
    """A device provisioned once, to be copied, and its city. Neither is changed by a test."""
    folder = tmp_path_factory.mktemp("template")
    with EnrolmentCity().serving() as serving:
        result = CliRunner().invoke(main, _first_visit(serving, folder))
    assert result.exit_code == 0, result.output
    return serving, folder


@pytest.fixture
def city() -> Iterator[EnrolmentCity]:
    with EnrolmentCity().serving() as serving:
        yield serving


@pytest.fixture
def arguments(city: EnrolmentCity, tmp_path: Path) -> list[str]:
    """A whole first visit."""
    return _first_visit(city, tmp_path)


@pytest.fixture
def installed(run: Run, arguments: list[str], tmp_path: Path) -> Path:
    """The `device.toml` of a device that was provisioned."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return tmp_path / "device.toml"


def _first_visit(city: EnrolmentCity, folder: Path) -> list[str]:
    return [
        *("provision", "--config", str(folder / "device.toml")),
        *("--city", city.url, "--claim", CLAIM),
        *("--device", "gate-1", "--site", "school-7", "--station", "entrance"),
        *("--reader", READER, "--lane", LANE),
    ]
