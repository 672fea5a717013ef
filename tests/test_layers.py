"""Goal: the layers hold: who may import what, and that pure modules read no clock.

Method: the import rules are contracts of import-linter in `setup.cfg`; here they are run on a copy
of the packages with one violation planted each, and must find it. What import-linter cannot say
is read with `ast`: pure modules use no clock, thread, random number, file or socket.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("edge", "sync", "provisioning", "hil")

# Modules that answer from their arguments alone, and all that they may use to do so.
PURE = (
    *("edge.model", "edge.words", "edge.messages", "edge.settings", "edge.order_rules"),
    "edge.signing_in",
    "edge.lasting",
    *("edge.readers.id12_frame", "edge.readers.hex_line_frame", "edge.readers.apdu"),
    *("edge.readers.watch", "edge.readers.reader", "edge.readers.frame"),
    *("edge.readers.number", "edge.readers.line_frame", "edge.readers.stx_frame"),
    *("edge.readers.decimal_frame", "edge.readers.em_desktop_frame", "edge.readers.wiegand"),
    *("edge.readers.wiegand_text_frame", "edge.readers.key_events", "edge.readers.field"),
    *("edge.readers.pn532_frame", "edge.readers.osdp_watch"),
    *("edge.readers.card_crypto", "edge.readers.desfire", "edge.readers.ntag424"),
    *("edge.readers.ultralight", "edge.readers.dialogue", "edge.readers.mutual"),
    *("edge.readers.secure_channel", "edge.readers.profile", "edge.readers.proving"),
    *("edge.readers.personalise", "edge.readers.issue_desfire", "edge.readers.issue_ntag424"),
    *("edge.turnstile.decision", "edge.turnstile.passage", "edge.turnstile.passage_table"),
    *("edge.turnstile.officer", "edge.turnstile.english", "edge.turnstile.lines", "edge.wiring"),
    *("edge.turnstile.signals", "edge.toml_table", "edge.config_lanes"),
    *("edge.schedule", "edge.area"),
    *("edge.turnstile.referral", "edge.turnstile.guardian", "edge.turnstile.admission"),
    *("edge.pos.decision", "edge.pos.basket", "edge.pos.ledger", "edge.pos.till"),
    *("edge.pos.cashier", "edge.pos.card_reasons", "edge.pos.cover", "edge.pos.entitlement"),
    *("edge.pos.tender", "edge.pos.closeout", "edge.till_facts"),
    *("edge.pos.ordered", "edge.pos.refund", "edge.pos.without_card"),
    *("edge.pos.barcode", "edge.pos.slip", "edge.pos.printing", "edge.config_till"),
    *("sync.pump", "sync.intake", "sync.scope_intake", "sync.later", "sync.topics", "sync.backoff"),
    *("sync.answers", "sync.status", "sync.bridge_events", "sync.hand_in", "sync.pulse"),
    *(
        "sync.peers",
        "sync.peer_state",
        "sync.peer_held",
        "sync.peer_voice",
        "sync.peer_answers",
        "sync.peer_topics",
    ),
    *("sync.contact", "sync.desired", "sync.renewal", "sync.photo_fetch"),
    *("sync.release_fetch", "sync.release_rules"),
    *("provisioning.update_steps", "provisioning.update_tar"),
)
MAY_USE = {
    *("__future__", "base64", "binascii", "collections", "dataclasses", "datetime", "enum"),
    *("functools", "hashlib", "hmac", "itertools", "math", "operator", "pathlib", "re", "struct"),
    *("types", "typing", "zlib"),
    *("cryptography", "msgspec"),
}
CLOCK_READS = {"now", "today", "utcnow"}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def impurities(module: str, source: str) -> Iterator[str]:
    """What a pure module does that it may not."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{module}: imports are absolute"
            names = [node.module]
        for name in names:
            top = name.split(".")[0]
            if top not in PACKAGES and top not in MAY_USE:
                yield f"{module} is pure and may not use {name}"
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr in CLOCK_READS:
            yield f"{module} is pure and may not read a clock"
        if ast.unparse(node.func) in ("open", "print", "input"):
            yield f"{module} is pure and may not {ast.unparse(node.func)}"


PATHS = {
    module_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))
}


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_answers_from_its_arguments_alone(module: str) -> None:
    assert list(impurities(module, PATHS[module].read_text())) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time", "may not use time"),
        ("from socket import socket", "may not use socket"),
        ("import datetime\ndatetime.date.today()", "may not read a clock"),
        ("import sqlite3", "may not use sqlite3"),
        ("open('/dev/null')", "may not open"),
    ],
)
def test_an_impurity_is_found(source: str, found: str) -> None:
    assert found in next(impurities("edge.turnstile.decision", source))


VIOLATIONS = {
    "edge imports sync": ("edge/agent.py", "import sync.topics", "edge never imports sync"),
    "product imports the bench": ("sync/topics.py", "import hil.world", "never imports the bench"),
    "sync knows a reader": ("sync/loop.py", "import edge.readers.watch", "sync knows no reader"),
    "a kernel knows a shell": ("edge/pos/ledger.py", "import edge.clock", "kernels know no shell"),
    "SQL elsewhere": ("sync/loop.py", "import sqlite3", "offline_cache alone knows SQL"),
    "MQTT elsewhere": ("sync/loop.py", "import paho.mqtt.client", "mqtt_link alone knows MQTT"),
    "pins elsewhere": ("edge/agent.py", "import gpiozero", "relay alone knows pins"),
    "HTTP elsewhere": ("edge/agent.py", "import uvicorn", "web alone knows the HTTP server"),
    "a partial judge": ("hil/city/posting.py", "import edge.trust", "reference city judges"),
}


@pytest.mark.slow
def test_a_broken_import_rule_is_found(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    assert "0 broken" in contracts(tmp_path)
    for file, line, _ in VIOLATIONS.values():
        path = tmp_path / file
        path.write_text(path.read_text() + f"\n{line}  # planted\n")
    report = contracts(tmp_path)
    for name, (_, _, contract) in VIOLATIONS.items():
        broken = [row for row in report.splitlines() if contract in row and "BROKEN" in row]
        assert broken, f"{name}: not found\n{report}"


def contracts(folder: Path) -> str:
    """What import-linter says of the packages in a folder."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr
