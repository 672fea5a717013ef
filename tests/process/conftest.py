"""What every test of this folder lives by when it runs in namespaces of its own."""

from __future__ import annotations

import ctypes
import signal

import pytest

from hil.devices.pcsc_stack import is_inside
from hil.supervisor import PR_SET_PDEATHSIG


@pytest.fixture(scope="session", autouse=True)
def _end_with_the_outer_run() -> None:
    """The inner pytest, and with it what it started, goes when the outer one is killed."""
    if is_inside():
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
