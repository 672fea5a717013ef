"""A fact as one short line: what a scenario's `facts` are compared with. Pure."""

from __future__ import annotations

from edge.messages import (
    AccessFact,
    AnyFact,
    FireFact,
    Forgiven,
    Handover,
    HandoverOpen,
    LockdownFact,
    OrderAnswer,
    OrderOutcome,
    Override,
    PassageFact,
    ReferralEnded,
    SignInFact,
    StreamOpened,
    Tamper,
    UnattendedRelease,
    Unrecorded,
)

NOBODY = "-"


def said(fact: AnyFact) -> str:
    """`access in grant authorized p1 +old_list`, `passage in taken p1`: see README.md."""
    match fact:
        case AccessFact():
            words = [fact.access_point, fact.outcome, fact.reason, fact.cardholder or NOBODY]
            words += [f"={fact.tariff}"] if fact.tariff is not None else []
            words += [f"+{caveat}" for caveat in sorted(fact.caveats)]
        case PassageFact():
            words = [fact.access_point, fact.result, fact.cardholder or NOBODY]
            words += ["assumed"] if fact.assumed else []
        case Override():
            words = [fact.access_point, fact.why, "by", fact.officer or "button"]
            words.append(fact.cardholder or NOBODY)
        case ReferralEnded():
            words = [fact.end, "by", fact.officer or NOBODY]
        case Forgiven():
            words = [fact.cardholder, "by", fact.officer]
        case FireFact():
            words = [fact.what, *(["by", fact.officer] if fact.officer else [])]
        case UnattendedRelease():
            words = [f"{round((fact.to_wall_ms - fact.from_wall_ms) / 1000)}s"]
        case LockdownFact():
            words = ["on" if fact.on else "off", "by", fact.officer]
        case Tamper():
            words = ["open" if fact.active else "shut"]
        case Handover():
            children = ",".join(sorted(fact.children)) or NOBODY
            words = [fact.guardian, fact.what, children]
            words += ["by", fact.officer] if fact.officer else []
        case HandoverOpen():
            words = [fact.guardian]
        case SignInFact():
            words = [fact.cardholder, fact.role, fact.what]
        case Unrecorded():
            words = [f"{kind}={count}" for kind, count in sorted(fact.counts.items())]
        case OrderAnswer():
            words = [fact.order, "accepted" if fact.accepted else fact.why]
        case OrderOutcome():
            words = ["done" if fact.done else fact.why]
        case StreamOpened():
            words = [fact.why]
        case _:
            words = []
    return " ".join([kind_of(fact), *words])


def kind_of(fact: AnyFact) -> str:
    """Its word on the wire."""
    tag = type(fact).__struct_config__.tag
    assert isinstance(tag, str)
    return tag


def books_problem(facts: list[AnyFact]) -> str:
    """Whether every grant ended once, at its own door and with its own person; "" when so."""
    grants: dict[str, tuple[str, str | None]] = {}
    for fact in facts:
        key = f"{fact.epoch}.{fact.sequence}"
        match fact:
            case AccessFact(outcome="grant", tariff=None):
                grants[key] = (fact.access_point, fact.cardholder)
            case Override():
                grants[key] = (fact.access_point, fact.cardholder)
            case OrderAnswer(accepted=True, order="open_once", access_point=str(point)):
                grants[key] = (point, None)
            case AccessFact(tariff="pupil" | "free"):
                grants[key] = (fact.access_point, None)
            case _:
                pass
    ended: set[str] = set()
    for fact in facts:
        if not isinstance(fact, PassageFact) or fact.passage is None:
            continue
        if "unrecorded" in fact.passage:
            continue  # Its grant was declared by number alone.
        if fact.passage in ended:
            return f"grant {fact.passage} ended twice"
        if grants.get(fact.passage) != (fact.access_point, fact.cardholder):
            return f"{said(fact)}: names {fact.passage}, which granted nobody that"
        ended.add(fact.passage)
    return ""
