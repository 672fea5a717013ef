"""Admission decision: a museum, or a concession of the city. Pure.

The list of all the city's visitors holds a category for each card and no person. A category has a
tariff by the site's settings (`pupil` is free without one); decision and tariff are the fact. A
card that is blocked is not on the list. A card without a concession is no refusal: the full
tariff, and a person to ask. What is reduced or full is paid at the desk, so no lane opens for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from edge.model import (
    AccessPolicy,
    AccessReason,
    AdmissionView,
    Caveat,
    Now,
    Outcome,
    Presentation,
    Tariff,
)
from edge.turnstile.decision import PRESENTATION_AGE_MS_MAX
from edge.turnstile.officer import SHOWN_MS, LaneView, Light

PUPIL: Final = "pupil"
FREE_TARIFFS: Final = frozenset({Tariff.PUPIL, Tariff.FREE})  # A lane opens for these alone.

OUTCOMES: Mapping[AccessReason, Outcome] = MappingProxyType(
    {
        AccessReason.STALE_READ: Outcome.DENY,  # Tap again.
        AccessReason.NO_LIST: Outcome.REFER,
        AccessReason.REPLAYED: Outcome.DENY,  # Tap again.
        AccessReason.UNKNOWN_CREDENTIAL: Outcome.REFER,
        AccessReason.NO_ACCESS_RIGHT: Outcome.REFER,  # Known, and without a concession here.
        AccessReason.AUTHORIZED: Outcome.GRANT,
    }
)
"""The reasons that an admission knows, in checking order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionDecision:
    """Outcome, its one reason, and what admission costs; None where nothing was decided."""

    outcome: Outcome
    reason: AccessReason
    tariff: Tariff | None
    caveats: frozenset[Caveat]

    @property
    def opens(self) -> bool:
        """Whether a lane opens for it at once."""
        return self.outcome is Outcome.GRANT and self.tariff in FREE_TARIFFS


def decide_admission(
    presentation: Presentation,
    view: AdmissionView,
    now: Now,
    tariffs: Mapping[str, Tariff],
    policy: AccessPolicy = AccessPolicy(),
) -> AdmissionDecision:
    """The first reason that applies. `tariffs`: category -> what admission costs it here."""
    assert presentation.age_ms >= 0
    reason, tariff = _decide(presentation, view, tariffs)
    return AdmissionDecision(
        outcome=OUTCOMES[reason],
        reason=reason,
        tariff=tariff,
        caveats=_caveats(view, now, policy),
    )


def _decide(
    presentation: Presentation, view: AdmissionView, tariffs: Mapping[str, Tariff]
) -> tuple[AccessReason, Tariff | None]:
    if presentation.age_ms > PRESENTATION_AGE_MS_MAX:
        return AccessReason.STALE_READ, None
    if view.visitors is None:
        return AccessReason.NO_LIST, Tariff.FULL
    if presentation.replayed:
        return AccessReason.REPLAYED, None
    if view.category is None:
        return AccessReason.UNKNOWN_CREDENTIAL, Tariff.FULL
    tariff = tariffs.get(view.category, Tariff.PUPIL if view.category == PUPIL else Tariff.FULL)
    if tariff is Tariff.FULL:
        return AccessReason.NO_ACCESS_RIGHT, Tariff.FULL
    return AccessReason.AUTHORIZED, tariff


def _caveats(view: AdmissionView, now: Now, policy: AccessPolicy) -> frozenset[Caveat]:
    caveats = set()
    if not now.clock_trusted:
        caveats.add(Caveat.CLOCK_UNTRUSTED)
    if view.visitors is not None:
        age_s = view.visitors.age_s
        if age_s is None or age_s > policy.list_age_amber_s:
            caveats.add(Caveat.OLD_LIST)
    return frozenset(caveats)


# ---------------------------------------------------------------------------- its screen

_ASK_AT_DESK: Final = "Спросите на кассе: мы поможем"
_GRANTED: Final[Mapping[Tariff, tuple[str, str]]] = MappingProxyType(
    {
        Tariff.PUPIL: ("ПРОХОДИТЕ", "Школьник: бесплатно"),
        Tariff.FREE: ("ПРОХОДИТЕ", "Бесплатный билет"),
        Tariff.REDUCED: ("ЛЬГОТА ЕСТЬ", "Льготный билет: назовите его на кассе"),
    }
)
_ASKED: Final[Mapping[AccessReason, tuple[str, str]]] = MappingProxyType(
    {
        AccessReason.STALE_READ: ("ЕЩЁ РАЗ", "Приложите карту ещё раз"),
        AccessReason.REPLAYED: ("ЕЩЁ РАЗ", "Приложите карту ещё раз"),
        AccessReason.NO_LIST: ("СПРОСИТЕ", f"Списки города ещё не получены. {_ASK_AT_DESK}"),
        AccessReason.UNKNOWN_CREDENTIAL: ("ПОЛНЫЙ БИЛЕТ", f"Льготы не нашлось. {_ASK_AT_DESK}"),
        AccessReason.NO_ACCESS_RIGHT: ("ПОЛНЫЙ БИЛЕТ", f"Здесь льготы нет. {_ASK_AT_DESK}"),
    }
)
assert set(_ASKED) | {AccessReason.AUTHORIZED} == set(OUTCOMES)
AGAIN_TEXT: Final = "Эта карта сегодня уже показана"


def shown(decision: AdmissionDecision, *, again: bool, now_ms: int) -> LaneView:
    """The screen after a decision: never a bare no."""
    if decision.outcome is Outcome.GRANT:
        assert decision.tariff is not None
        word, text = _GRANTED[decision.tariff]
        light, state = Light.GREEN, "granted"
    else:
        word, text = _ASKED[decision.reason]
        light, state = Light.AMBER, "ask"
    return LaneView(
        word=word,
        light=light,
        state=state,
        text=f"{text}. {AGAIN_TEXT}" if again else text,
        reason=decision.reason.value,
        until_ms=now_ms + SHOWN_MS,
    )
