"""A device that was provisioned, to be broken in one place, and its city."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.provisioning.enrolment_city import EnrolmentCity


@pytest.fixture
def city(template: tuple[EnrolmentCity, Path]) -> EnrolmentCity:
    return template[0]


@pytest.fixture
def installed(template: tuple[EnrolmentCity, Path], tmp_path: Path) -> Path:
    shutil.copytree(template[1], tmp_path, dirs_exist_ok=True)
    return tmp_path / "device.toml"


@pytest.fixture
def short_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    """For servers that say nothing at all: their silence need not be waited for."""
    monkeypatch.setattr("provisioning.checks.broker.ALERT_S", 0.1)
