"""Goal: a technician gives an OSDP reader a key of its own, whatever happens in the middle; no
reader is left with a key that nobody has, and no key stands where others read it.

Method: the command on a `device.toml`, libosdp as panel against libosdp as reader on a pty; cut off
at each point where the disk or the reader had changed; afterwards the real driver reads a card.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.config import load
from edge.model import DeviceFault, SetupProblem
from edge.readers.open_reader import open_reader
from edge.readers.osdp import DEFAULT_KEY, load_key, load_osdp
from edge.readers.osdp_pairing import Answered, answers_to
from edge.readers.reader import CardRead, LinkUp
from edge.settings import ReaderSettings
from hil.devices.reader_listener import Listener
from hil.devices.reader_osdp import KEY, VirtualOsdpReader
from provisioning.reader import PENDING, pair_reader, reader
from tests.support.reader_benches import need_libosdp

pytestmark = pytest.mark.slow

LIMIT_MS = 1_500  # A pty answers in a twentieth of it.
UID = bytes.fromhex("04A1B2C3D4E580")
TOML = """schema = 1
[device]
id = "till-1"
site = "s1"
station = "till"
[city]
endpoints = ["mqtt://127.0.0.1:9"]
"""
READER = """[[readers]]
id = "{name}"
driver = "osdp"
port = "{port}"
frame = "uid"
key_file = "{key}"
"""


@pytest.fixture(autouse=True)
def _libosdp() -> None:
    need_libosdp()


@pytest.fixture
def new(tmp_path: Path) -> Iterator[VirtualOsdpReader]:
    """As it was sold."""
    with VirtualOsdpReader(tmp_path / "port", key=None) as made:
        yield made


def settings_in(folder: Path) -> ReaderSettings:
    config = folder / "device.toml"
    text = READER.format(name="r1", port=folder / "port", key=folder / "identity" / "r1.osdp")
    config.write_text(TOML + text)
    return load(config).readers[0]


def pair(settings: ReaderSettings) -> str:
    return pair_reader(settings, library=load_osdp(), limit_ms=LIMIT_MS)


def reads_a_card(settings: ReaderSettings, device: VirtualOsdpReader) -> None:
    with Listener(lambda wake: open_reader(settings, wake=wake)) as listener:
        listener.expect(LinkUp)
        device.tap(UID)
        assert listener.expect(CardRead).uid == UID


def test_a_new_reader_gets_a_key_that_only_the_agent_can_read(
    tmp_path: Path, new: VirtualOsdpReader
) -> None:
    settings = settings_in(tmp_path)
    result = CliRunner().invoke(
        reader, ["pair", "--config", str(tmp_path / "device.toml")], catch_exceptions=False
    )
    assert result.exit_code == 0 and "r1 is paired" in result.output
    key_file = Path(settings.key_file)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key = load_key(settings)
    assert key != DEFAULT_KEY and key.hex() not in result.output
    assert [path.name for path in key_file.parent.iterdir()] == ["r1.osdp"]
    reads_a_card(settings, new)
    assert answers_to(settings, KEY, library=load_osdp(), limit_ms=LIMIT_MS) is Answered.OTHER_KEY
    assert "paired already" in pair(settings) and load_key(settings) == key


def test_a_pairing_that_was_cut_off_goes_on_with_its_key(
    tmp_path: Path, new: VirtualOsdpReader
) -> None:
    """The power went before the reader was told, and again before the file was in its place."""
    settings = settings_in(tmp_path)
    key_file = Path(settings.key_file)
    new.cut = True
    with pytest.raises(DeviceFault, match="does not answer at 9600 baud; check cable"):
        pair(settings)
    pending = key_file.with_name(key_file.name + PENDING)
    told = pending.read_bytes()
    assert stat.S_IMODE(pending.stat().st_mode) == 0o600 and not key_file.exists()
    new.cut = False
    pair(settings)
    assert key_file.read_bytes() == told
    key_file.rename(pending)  # The reader has it, the file is not in its place.
    assert "r1 is paired;" in pair(settings)
    assert key_file.read_bytes() == told and not pending.exists()
    reads_a_card(settings, new)


def test_a_reader_that_was_replaced_gets_a_new_key(tmp_path: Path, new: VirtualOsdpReader) -> None:
    settings = settings_in(tmp_path)
    key_file = Path(settings.key_file)
    key_file.parent.mkdir()
    key_file.write_text(KEY.hex())
    key_file.chmod(0o600)
    assert "r1 is paired;" in pair(settings)
    assert load_key(settings) != KEY
    reads_a_card(settings, new)


def test_a_reader_with_anothers_key_is_left_alone(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with VirtualOsdpReader(tmp_path / "port", key=KEY) as device:
        with pytest.raises(DeviceFault, match="neither the default key nor ours; set it back"):
            pair(settings)
        assert not Path(settings.key_file).exists() and device.commands == []
        assert answers_to(settings, KEY, library=load_osdp()) is Answered.SECURE


def test_a_reader_in_use_is_not_disturbed(tmp_path: Path, new: VirtualOsdpReader) -> None:
    settings = settings_in(tmp_path)
    pair(settings)
    with Listener(lambda wake: open_reader(settings, wake=wake)) as listener:
        listener.expect(LinkUp)
        with pytest.raises(DeviceFault, match="is used by another program; stop it"):
            pair(settings)


def test_which_reader_is_meant_is_asked_when_it_cannot_be_told(tmp_path: Path) -> None:
    config = tmp_path / "device.toml"
    both = "".join(
        READER.format(name=name, port="/dev/x" + name, key=tmp_path / name) for name in ("r1", "r2")
    )
    for text, words, says in (
        (TOML + both, [], "which reader. Name one of r1, r2"),
        (TOML + both, ["r9"], 'no OSDP reader "r9"'),
        (TOML + '[[readers]]\nid = "r1"\ndriver = "pcsc"\n', [], "no reader with driver osdp"),
    ):
        config.write_text(text)
        with pytest.raises(SetupProblem, match=says):
            CliRunner().invoke(
                reader, ["pair", *words, "--config", str(config)], catch_exceptions=False
            )


def test_a_spoiled_pending_key_is_not_guessed_at(tmp_path: Path, new: VirtualOsdpReader) -> None:
    settings = settings_in(tmp_path)
    pending = Path(settings.key_file + PENDING)
    pending.parent.mkdir()
    pending.write_text("half a ke")
    with pytest.raises(SetupProblem, match="move it away"):
        pair(settings)
