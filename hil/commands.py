"""What the bench adds to `moskvenok`, by the entry-point group `moskvenok.commands`."""

from __future__ import annotations

from typing import Final

# Name -> module, attribute, one line of help; loaded when called (provisioning/cli.py).
COMMANDS: Final[dict[str, tuple[str, str, str]]] = {
    "run": ("hil.run", "run", "Run one school in miniature, with a page to play it on."),
    "tap": ("hil.tap", "tap", "Show a virtual card to a reader of the miniature."),
    "city": ("hil.conformance.command", "city", "Check a city against the rules of the wire."),
    "family": ("hil.family", "family", "Ask a city what a family asks of it."),
    "scenarios": (
        "hil.scenarios.command",
        "scenarios",
        "Hold the agent against what is written of an entrance.",
    ),
    "network": ("hil.network", "network", "Give the miniature its network, or take it away."),
}
