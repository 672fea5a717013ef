"""`moskvenok version`: what is installed, for the first line of every report."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from typing import Any, Final

import click

from provisioning.output import json_option, print_json, print_table

PACKAGE: Final = "moskvenok-edge"
OPTIONAL: Final = {"smartcard": "PC/SC readers", "lgpio": "pins of a Raspberry Pi"}


def facts() -> dict[str, Any]:
    from edge.messages import WIRE_VERSION
    from edge.offline_cache.record import SOFTWARE
    from edge.offline_cache.store import SCHEMA_VERSIONS

    try:
        package = installed_version(PACKAGE)
    except PackageNotFoundError:
        package = ""  # Run from its source tree.
    return {
        "software": SOFTWARE,
        "package": package,
        "wire": WIRE_VERSION,
        "databases": {kind.value: number for kind, number in SCHEMA_VERSIONS.items()},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "optional": {what: find_spec(module) is not None for module, what in OPTIONAL.items()},
    }


@click.command("version")
@json_option
def version(as_json: bool) -> None:
    """What is installed here."""
    found = facts()
    if as_json:
        print_json(found)
        return
    optional = found.pop("optional")
    databases = ", ".join(f"{kind} {number}" for kind, number in found.pop("databases").items())
    rows = [(name, str(value)) for name, value in found.items() if value]
    rows += [("databases", databases)]
    rows += [(what, "installed" if there else "not installed") for what, there in optional.items()]
    print_table(("", ""), rows)
