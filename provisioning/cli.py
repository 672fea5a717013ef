"""The `moskvenok` command: names, help and exit codes; what a command does is in its own module.

Commands are loaded when they are called: `moskvenok --help` is a table of words and must come at
once on a slow device. Other packages add theirs by the entry-point group `moskvenok.commands`,
whose objects are such tables too; one that cannot be loaded is reported and harms no other.

Exit codes: 0 good; 1 yours to fix (the message says how); 2 ours (a fault in this software).
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Final

import click

from edge.model import CorruptData, DeviceFault, SetupProblem

GOOD: Final = 0
YOURS: Final = 1
OURS: Final = 2
GROUP: Final = "moskvenok.commands"  # Named in setup.cfg.

# Name -> module, attribute, one line of help. The verbs stand in the order of a visit, as in
# README.md beside this file.
COMMANDS: Final[dict[str, tuple[str, str, str]]] = {
    "version": ("provisioning.version", "version", "What is installed here."),
    "provision": ("provisioning.enroll", "provision", "Give this device its key and file."),
    "site": ("provisioning.site", "site", "Let this device carry the school's own broker."),
    "lists": ("provisioning.lists", "lists", "Take lists and keys from a stick."),
    "reader": ("provisioning.reader", "reader", "Give an OSDP reader a key of its own."),
    "doctor": ("provisioning.doctor", "doctor", "Examine every part; say what to mend."),
    "line": ("provisioning.running", "line", "Move one line, to see that it is wired."),
    "identify": ("provisioning.running", "identify", "Let the device blink and beep."),
    "printer": ("provisioning.printer", "printer", "Print a check slip at a till."),
    "status": ("provisioning.status", "status", "How the device is, to be read aloud."),
    "connect": ("provisioning.keeping", "connect", "Try to reach the city now."),
    "renew": ("provisioning.keeping", "renew", "Fetch the next certificate now."),
    "logs": ("provisioning.keeping", "logs", "What a running process has logged."),
    "update": ("provisioning.update", "update", "Install a release on trial; go back from one."),
    "cards": ("provisioning.cards", "cards", "Enrol, make and examine cards."),
    "broker": ("provisioning.broker", "broker", "Set up the city's own broker."),
}


@dataclass(frozen=True, slots=True)
class Added:
    """What the entry points brought, and what was wrong with some of them."""

    commands: Mapping[str, tuple[str, str, str]]
    broken: tuple[str, ...]


def added_commands() -> Added:
    """Commands of other installed packages. Whatever is wrong with one becomes a sentence."""
    from importlib.metadata import entry_points

    commands: dict[str, tuple[str, str, str]] = {}
    broken: list[str] = []
    for entry in entry_points(group=GROUP):
        try:
            found = _checked(entry.load())
        except Exception as error:  # Someone else's module may raise anything.
            broken.append(f'the commands of "{entry.name}": {type(error).__name__}: {error}')
            continue
        for name, place in found.items():
            if name in COMMANDS or name in commands:
                broken.append(f'the command "{name}" of "{entry.name}": the name is taken')
            else:
                commands[name] = place
    return Added(commands, tuple(broken))


def _checked(table: Any) -> dict[str, tuple[str, str, str]]:
    """The table in the one form that is used here; TypeError for any other."""
    if not isinstance(table, Mapping):
        raise TypeError(f"a table of commands is needed, found {type(table).__name__}")
    for name, place in table.items():
        texts = isinstance(place, Sequence) and [isinstance(text, str) for text in place]
        if not isinstance(name, str) or isinstance(place, str) or texts != [True] * 3:
            raise TypeError(f"{name!r} needs (module, attribute, help)")
    return {name: (place[0], place[1], place[2]) for name, place in table.items()}


class LazyGroup(click.Group):
    """Lists commands from tables and imports the one that is called."""

    _added: Added | None = None

    def table(self) -> dict[str, tuple[str, str, str]]:
        return COMMANDS | dict(self.added().commands)

    def added(self) -> Added:
        if self._added is None:
            self._added = added_commands()
        return self._added

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        # Our own are found without asking the entry points, which costs a look at every package.
        place = COMMANDS.get(cmd_name) or self.table().get(cmd_name)
        if place is None:
            return None
        module, attribute, _ = place
        try:
            command = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            if cmd_name in COMMANDS and not isinstance(error, ModuleNotFoundError):
                raise
            raise SetupProblem(
                f'the command "{cmd_name}" cannot be loaded ({error}); install the package again '
                "with all its parts"
            ) from error
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and name not in COMMANDS and name not in self.table():
            near = get_close_matches(name, self.table())
            hint = f"Did you mean {' or '.join(near)}?" if near else 'See "moskvenok --help".'
            raise click.UsageError(f'There is no command "{name}". {hint}', ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("In the order of a visit"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])
        added = self.added()
        if added.commands:
            with formatter.section("Added by other packages"):
                formatter.write_dl([(name, text) for name, (_, _, text) in added.commands.items()])
        if added.broken:
            with formatter.section("Not available"):
                formatter.write_dl([("", text) for text in added.broken])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(given, prog_name or "moskvenok", standalone_mode=False, **extra)
        sys.exit(self._exit_code(given, prog_name or "moskvenok", extra))

    def _exit_code(self, args: list[str], prog_name: str, extra: dict[str, Any]) -> int:
        try:
            code = super().main(args, prog_name, standalone_mode=False, **extra)
        except click.Abort:
            return _say_wrong(args, "stopped; nothing was left half done, run it again")
        except click.ClickException as error:
            error.show()
            return _say_wrong(args, error.format_message(), shown=True)
        except (SetupProblem, DeviceFault, CorruptData) as error:
            return _say_wrong(args, str(error))
        except Exception as error:
            traceback.print_exc()
            found = f"{type(error).__name__}: {error}"
            _say_wrong(args, f"a fault in this software: {found}; report the lines above")
            return OURS
        return code if isinstance(code, int) else GOOD


def _say_wrong(args: list[str], text: str, *, shown: bool = False) -> int:
    """Words for people on standard error, an object for programs on standard output."""
    if not shown:
        click.echo(f"moskvenok: {text}", err=True)
    if "--json" in args:
        click.echo(json.dumps({"schema": 1, "ok": False, "error": text}, ensure_ascii=False))
    return YOURS


@click.group(
    "moskvenok",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 good, 1 yours to fix, 2 a fault in this software.",
)
def main() -> None:
    """Set up and look after one device: an entrance or a till."""
