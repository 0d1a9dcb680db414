"""Which map a link asks for: a space, a colour, whose flags, how many, which classes. A value that is none is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.errors import SettingsError
from core.review.flags import SUSPICION, TRAIN, Budget
from core.review.points import ALL, GIVEN, MOST_CHOSEN, MOST_COLOURS, RANKINGS, SUGGESTED

SHARES = ("0.5%", "1%", "2%", "3%", "5%", "7.5%", "10%", "15%", "20%", "30%", "50%")


@dataclass(frozen=True)
class View:
    """What the map shows.

    Attributes:
        space: whose map.
        colour: "suspicion", "given", "suggested" or the name of a score.
        ranking: whose flags are marked.
        budget: how many it flags, as `Budget.parse` reads it.
        split: "train" or "all".
        classes: those that stand out; none means all.
    """

    space: str
    colour: str = SUSPICION
    ranking: str = SUSPICION
    budget: str = "5%"
    split: str = TRAIN
    classes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The column whose classes the chips speak of."""
        return "suggested_label" if self.colour == SUGGESTED else "given_label"

    @classmethod
    def from_query(
        cls, query: Mapping[str, str], classes: Sequence[str], scores: Sequence[str], spaces: Sequence[str], budget: str
    ) -> tuple[View, list[str]]:
        """Return the view that an address asks for, and what it asks for in vain, in words."""
        said: list[str] = []
        scored = (SUSPICION, *scores)
        budgets = query.get("budget") or budget
        try:
            Budget.parse(budgets)
        except SettingsError as error:
            said.append(f"The link asks for a budget that cannot be met: {error}")
            budgets = budget
        split = _one(query, "split", (TRAIN, ALL), "split", said) or TRAIN
        return cls(
            space=_one(query, "space", spaces, "map", said) or spaces[0],
            colour=_one(query, "colour", (*scored, GIVEN, SUGGESTED), "colour", said) or SUSPICION,
            ranking=_one(query, "score", scored, "score", said) or SUSPICION,
            budget=budgets,
            split=split,
            classes=_classes(query, classes, said),
        ), said


def _one(query: Mapping[str, str], key: str, known: Sequence[str], kind: str, said: list[str]) -> str | None:
    value = query.get(key)
    if not value or value in known:
        return value or None
    said.append(f"The link asks for the {kind} '{value[:40]}', which is not there. {known[0].capitalize()} is shown.")
    return None


def _classes(query: Mapping[str, str], classes: Sequence[str], said: list[str]) -> tuple[str, ...]:
    """The classes that the address names by their places, since a name may hold any sign."""
    text = query.get("stand", "")
    places = [int(each) for each in text.split(".") if each.isdecimal() and len(each) < 9] if text else []
    found = tuple(dict.fromkeys(classes[place] for place in places if place < len(classes)))
    if text and (len(places) != text.count(".") + 1 or len(found) != len(places)):
        said.append("The link asks for classes that this project does not have. They are left out.")
    return found[:MOST_CHOSEN] if len(classes) > MOST_COLOURS else found


def places(chosen: Sequence[str], classes: Sequence[str]) -> str:
    """Return the places of chosen classes, as the address holds them."""
    return ".".join(str(row) for row, name in enumerate(classes) if name in chosen)


def budgets(total: int, now: str, default: str) -> dict[str, str]:
    """Return the budgets of the slider, smallest first, each with its words: "5 %: 400 images"."""
    sizes = {text: Budget.parse(text).count(total) for text in dict.fromkeys((now, default, *SHARES))}
    ranked = sorted(sizes, key=lambda text: (sizes[text], text not in (now, default)))
    distinct = [text for row, text in enumerate(ranked) if text == now or sizes[text] != sizes[now]]
    kept = [text for row, text in enumerate(distinct) if row == 0 or sizes[text] != sizes[distinct[row - 1]]]
    return {text: _words(text, sizes[text]) for text in kept}


def _words(text: str, size: int) -> str:
    share = f" ({text.replace('%', ' %')})" if "%" in text else ""
    return f"{size:,} {'image' if size == 1 else 'images'}{share}"


def rankings(now: str, scores: Sequence[str]) -> tuple[str, ...]:
    """Return the rankings that one click chooses, as far as the run has these scores, with the one that is chosen."""
    found = tuple(name for name in RANKINGS if name == SUSPICION or name in scores)
    return found if now in found else (*found, now)
