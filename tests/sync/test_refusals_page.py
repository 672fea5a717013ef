"""Goal: `sync/refusals.md` has every word that a device tells a refusal with, and no other.

Method: every call that refuses something is found in the source of `sync`. Where it names what and
why, that is a pair; where it does not, a table here says which function gives the word, and its
words are read from there. A call of a new form has to be entered here, or the test fails.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

from edge.messages import PeerKind
from sync.topics import Side, TopicKind, publisher_of

ROOT: Final = Path(__file__).parent.parent.parent
PAGE: Final = ROOT / "sync" / "refusals.md"
NAMES: Final = {"refuse", "_refuse", "_refused", "refused", "Refuse", "RefusedAck", "RefusedPeer"}
Pair = tuple[str, str]


def tree_of(module: str) -> ast.Module:
    return ast.parse((ROOT / "sync" / f"{module}.py").read_text(encoding="utf-8"))


def calls(module: str, names: set[str]) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call)
        and (node.func.attr if isinstance(node.func, ast.Attribute)
             else getattr(node.func, "id", "")) in names
    ]  # fmt: skip


def returned(module: str, function: str) -> set[str]:
    """Every word that a function gives back."""
    [found] = [
        node
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.FunctionDef) and node.name == function
    ]
    return {
        inner.value
        for node in ast.walk(found)
        if isinstance(node, ast.Return) and node.value is not None
        for inner in ast.walk(node.value)
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and inner.value
    }


def of_city() -> set[str]:
    return {kind.value for kind in TopicKind if publisher_of(kind) is Side.CITY}


def of_peers(reason: str) -> set[Pair]:
    return {(f"peer_{kind}", reason) for kind in PeerKind}


# Calls that name not both: module and source -> the pairs. Empty: it hands on what others said.
OTHERS: Final[dict[str, set[Pair]]] = {
    "arrivals: self._sync.teller.refuse(kind, scope, 'invalid')": {
        (what, "invalid") for what in (*of_city(), "message")
    },
    "arrivals: self._sync.teller.refuse('order', str(order.counter), problem)": {
        ("order", "used_counter")
    },
    "arrivals: self._sync.teller.refuse('root', '', refused)": {
        ("root", reason) for reason in returned("roots", "take") - {"same"}
    },
    "downlink: self._refused(what, scope, reason)": set(),
    "inbox: self._sync.teller.refuse(STICK, scope, reason)": set(),
    "inbox: self._sync.teller.refuse(STICK, what, 'shape')": {("stick", "shape")},
    "inbox: self._refuse(scope, 'mixed')": {("stick", "mixed")},
    "intake: Refuse(what=what, scope=scope[:64], reason='wrong_scope')": {
        (ast.literal_eval(call.args[0]), "wrong_scope") for call in calls("intake", {"_foreign"})
    },
    "orders: refuse(order, moment)": set(),  # Whether an order is carried out: `order_answer`.
    "peer_link: self._refused(f'peer_{answer.kind}', answer.device, answer.reason)": set(),
    "peers: RefusedPeer(kind=kind, device=peer.device, reason=reason)": set(),
    "peers: self._refuse(kind, peer, 'flood')": of_peers("flood"),
    "peers: self._refuse(kind, peer, 'signature')": of_peers("signature"),
    "peers: self._refuse(kind, peer, 'invalid')": of_peers("invalid"),
    "peers: self._refuse(PeerKind.SPEND, peer, 'not_a_till')": {("peer_spend", "not_a_till")},
    "peers: self._refuse(PeerKind.SPEND, peer, 'fork')": {("peer_spend", "fork")},
    "peers: self._refuse(PeerKind.SPEND, peer, 'full')": {("peer_spend", "full")},
    "peers: self._refuse(PeerKind.SIDE, peer, 'not_a_lane')": {("peer_side", "not_a_lane")},
    "pump: RefusedAck(epoch=ack.epoch, reason='foreign')": {("ack", "foreign")},
    "pump: RefusedAck(epoch=ack.epoch, reason='epoch')": {("ack", "epoch")},
    "pump: RefusedAck(epoch=ack.epoch, reason='future')": {("ack", "future")},
    "renewing: self._teller.refuse('renewed', '', why)": {("renewed", "misfit")},
    "scope_intake: Refuse(what=what, scope=self.scope, reason=reason)": set(),
    "scope_intake: self._refuse('manifest', reason)": {
        ("manifest", reason) for reason in returned("scope_intake", "_manifest_problem")
    },
    "uplink: RefusedAck(epoch=ack.epoch, reason='future')": {("ack", "future")},
    "uplink: self._refused('ack', stream.value, reason)": set(),
}


def pairs_of_code() -> tuple[set[Pair], set[str]]:
    """All pairs, and the entries of `OTHERS` that were met."""
    found: set[Pair] = set()
    met: set[str] = set()
    for path in sorted((ROOT / "sync").glob("*.py")):
        for call in calls(path.stem, NAMES):
            source = f"{path.stem}: {ast.unparse(call)}"
            if source in OTHERS:
                found |= OTHERS[source]
                met.add(source)
                continue
            what, *_, reason = call.args
            named = isinstance(what, ast.Constant) and isinstance(reason, ast.Constant)
            assert named and not call.keywords, f"enter this call in OTHERS: {source}"
            found.add((ast.literal_eval(what), ast.literal_eval(reason)))
    return found, met


def pairs_of_page() -> list[Pair]:
    """From every row of every table: what stands in backquotes in its first two cells."""
    pairs: list[Pair] = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            whats = [word.strip().strip("`") for word in cells[0].split(",")]
            pairs += [(what, cells[1].strip("`")) for what in whats]
    return pairs


def test_the_page_has_every_refusal_of_the_code_and_no_other() -> None:
    pairs = pairs_of_page()
    assert len(pairs) == len(set(pairs)), "a refusal stands there twice"
    of_code, _ = pairs_of_code()
    assert set(pairs) == of_code


def test_every_form_of_call_that_is_entered_here_is_met() -> None:
    _, met = pairs_of_code()
    assert met == set(OTHERS)


def test_every_row_says_what_it_means() -> None:
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) in (3, 4) and all(cells), line
