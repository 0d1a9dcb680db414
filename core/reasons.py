"""Why a sample stands where it stands in the ranking, as one sentence of plain English.

Use `sentence` for one row of evidence and `reasons` for a table of it. Both read only what measured evidence says and
weigh it by the thresholds below, so the same evidence gives the same words anywhere. A sentence says "probably",
never "is": a hard image is not a wrong label, and where the evidence agrees with the label the sentence says so.

Three witnesses may speak for the suggested label, each by a stated rule (see `_witnesses`):
the out-of-sample head, the nearest training images, and the network's own prediction. All three: "very probably"; two:
"probably"; one: "perhaps"; none: "hard to tell, if anything". `kind` reads a sentence back into one of `KINDS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

HEAD = "the out-of-sample head"  # the usual witness for another label
WHILE_LEARNING = "the network, before it had memorised,"  # where labels were learned by heart
HEAD_SURE = 0.5  # a head that gives its best class less than even odds is unsure
NEAR_SHARE = 0.3  # neighbours speak for a label that at least so many of them carry
RARELY_LEARNED = 0.25  # a label predicted in fewer of the epochs was hardly learned
LARGE_GRADIENT = 95  # percentile from which a gradient is worth a word
LONGEST = 200  # characters; beyond, the weakest part of the evidence is left out
LONGEST_NAME = 20  # characters of a class name
KINDS = (
    "very probably wrong", "probably wrong", "perhaps wrong", "hard to tell", "unusual, label confirmed",
    "nothing against the label", "no label",
)  # fmt: skip
_STRENGTH = ("hard to tell, if anything", "perhaps", "probably", "very probably")


_NO_LABEL = "Not labelled, so there is no label to doubt."
_UNUSUAL = ": unusual or hard rather than wrong."
_NOTHING = "; nothing speaks against the label."
_NO_EVIDENCE = "; there is no other evidence."
_DOUBTS = ("none of its ", "only ", "most often labelled", "the network predict", "its gradient is larger")


@dataclass(frozen=True, slots=True)
class _Evidence:
    """One row of evidence; what was not measured is None and is left out of the sentence."""

    given_label: str | None
    suggested_label: str | None  # the out-of-sample head's best class
    suggested_prob: float | None  # its calibrated probability of that class, 0-1
    given_prob: float | None  # its probability of the given label, 0-1
    predicted_label: str | None  # the network's
    predicted_prob: float | None  # 0-1
    neighbours_suggested: int | None  # how many of the nearest training images carry the suggested label
    neighbours_given: int | None  # and the given one
    neighbours_top_label: str | None  # the label most of them carry
    neighbours: int | None  # how many were asked
    gradient_percentile: float | None  # 0-100
    fitted: bool | None  # the network ended up predicting the given label
    learned_share: float | None  # share of epochs in which it did, 0-1
    witness: str = HEAD  # whose suggestion it is


_NAMES = tuple(field.name for field in fields(_Evidence))
_COUNTS = {"neighbours_suggested", "neighbours_given", "neighbours"}
_TEXTS = {"given_label", "suggested_label", "predicted_label", "neighbours_top_label", "witness"}


def sentence(evidence: Mapping[str, Any]) -> str:
    """The sentence for one sample, at most about 200 characters.

    Args:
        evidence: given_label, suggested_label, suggested_prob, given_prob, predicted_label, predicted_prob,
            neighbours_suggested, neighbours_given, neighbours_top_label, neighbours, gradient_percentile, fitted,
            learned_share, witness (who suggests; by default the head); what is missing, None or NA is not spoken of.
            Probabilities and shares are 0-1, the percentile is 0-100.
    """
    known = _Evidence(**{name: _value(name, evidence.get(name)) for name in _NAMES} | {"witness": _witness(evidence)})
    if known.given_label is None:
        return _NO_LABEL
    if known.suggested_label is None:
        return _without_suggestion(known)
    return _doubted(known) if known.suggested_label != known.given_label else _confirmed(known)


def reasons(evidence: pd.DataFrame) -> pd.Series[str]:
    """The sentence of every row of `evidence`, on the same index, named "reason". Columns as in `sentence`."""
    columns = [evidence[name] if name in evidence else [None] * len(evidence) for name in _NAMES]
    said = [sentence(dict(zip(_NAMES, row, strict=True))) for row in zip(*columns, strict=True)]
    return pd.Series(said, index=evidence.index, dtype="str", name="reason")


def kind(said: str, given: str | None = None) -> str:
    """The one of `KINDS` that the sentence `said` is of; "hard to tell" for a text that `sentence` never says.

    Args:
        said: what `sentence` returned.
        given: the given label; with it a class name that reads like a part of a sentence cannot mislead.
    """
    if said == _NO_LABEL:
        return "no label"
    if said.endswith(_UNUSUAL):
        return "unusual, label confirmed"
    if said.endswith((_NOTHING, _NO_EVIDENCE)):
        return "nothing against the label"
    start = "Labelled " if given is None else f"Labelled {_short(given)}"
    if not said.startswith(start):
        return "hard to tell"
    after = said[len(start) :]
    claim = _CLAIM.search(after) if given is None else _CLAIM.match(after)
    if claim:
        return _KIND_OF[claim[1]]
    return "hard to tell" if any(doubt in after for doubt in _DOUBTS) else "nothing against the label"


_KIND_OF = dict(zip(_STRENGTH, ("hard to tell", "perhaps wrong", "probably wrong", "very probably wrong"), strict=True))
_CLAIM = re.compile(rf", ({'|'.join(_STRENGTH)}) ")


def _doubted(e: _Evidence) -> str:
    """The head prefers another class than the given one."""
    claim = f"Labelled {_short(e.given_label)}, {_STRENGTH[_witnesses(e)]} {_short(e.suggested_label)}"
    told = [part for part in (_head(e), _near(e), *_learning(e)[:1]) if part]
    against = _against(e)
    if len(f"{claim}: {_joined(told)}{against}.") > LONGEST:
        told = told[:2]
    return f"{claim}: {_joined(told)}{against}."


def _confirmed(e: _Evidence) -> str:
    """The head prefers the given label: unusual at most."""
    sure = e.suggested_prob is None or e.suggested_prob >= HEAD_SURE
    head = f"{e.witness} {'agrees' if sure else 'leans to it too'}{_bracket(e.suggested_prob)}"
    agrees = f"Labelled {_short(e.given_label)}, and {head}"
    doubts = [*([_near(e)] if _near_doubts(e) else []), *_learning(e)]
    if doubts:
        return f"{agrees}, but {_joined(doubts[:2])}{_UNUSUAL}"
    near = f"; {_near(e)}" if _near(e) else ""
    return f"{agrees}{near}{_NOTHING}"


def _without_suggestion(e: _Evidence) -> str:
    """No head was asked."""
    told = _joined([_near(e), *_learning(e)[:2]])
    return f"Labelled {_short(e.given_label)}{f': {told}.' if told else _NO_EVIDENCE}"


def _witnesses(e: _Evidence) -> int:
    """How many of the three speak for the suggested label against the given one.

    The head: at least `HEAD_SURE` for it and twice the given label's probability. The nearest images: more of them
    carry it than the given label, and at least `NEAR_SHARE` of all. The network: predicts it, though trained on the
    given one.
    """
    head = (e.suggested_prob or 0) >= HEAD_SURE and (e.suggested_prob or 0) >= 2 * (e.given_prob or 0)
    for_it, against = (e.neighbours_suggested or 0), (e.neighbours_given or 0)
    near = bool(e.neighbours) and for_it > against and for_it >= NEAR_SHARE * (e.neighbours or 0)
    return int(head) + int(near) + int(e.predicted_label == e.suggested_label)


def _head(e: _Evidence) -> str:
    if e.suggested_prob is None:
        return f"{e.witness} prefers {_short(e.suggested_label)}"
    other = "" if e.given_prob is None else f" and {_short(e.given_label)} {_percent(e.given_prob)}"
    return f"{e.witness} gives {_short(e.suggested_label)} {_percent(e.suggested_prob)}{other}"


def _near(e: _Evidence) -> str:
    """Which label the nearest training images carry."""
    if not e.neighbours:
        return ""
    told = [(e.neighbours_suggested, e.suggested_label), (e.neighbours_given, e.given_label)]
    counts = [(count, label) for count, label in told if count is not None]
    count, label = max(counts, key=lambda pair: pair[0], default=(None, None))
    if e.neighbours_top_label not in (None, e.suggested_label, e.given_label):
        return f"its {e.neighbours} nearest images are most often labelled {_short(e.neighbours_top_label)}"
    if count is None or label is None:
        return ""
    few = "only " if _near_doubts(e) and label == e.given_label else ""
    return f"{f'{few}{count}' if count else 'none'} of its {e.neighbours} nearest images are labelled {_short(label)}"


def _near_doubts(e: _Evidence) -> bool:
    """Whether fewer than half of the nearest images carry the given label."""
    return bool(e.neighbours) and e.neighbours_given is not None and 2 * e.neighbours_given < (e.neighbours or 0)


def _learning(e: _Evidence) -> list[str]:
    """What the network itself says against the given label, the most telling first."""
    said = []
    if e.predicted_label is not None and e.predicted_label != e.given_label:
        said.append(f"the network predicts {_short(e.predicted_label)}{_bracket(e.predicted_prob)}")
    if e.learned_share is not None and e.learned_share < RARELY_LEARNED:
        said.append(f"the network predicted {_short(e.given_label)} in {_percent(e.learned_share)} of its epochs only")
    if e.gradient_percentile is not None and e.gradient_percentile >= LARGE_GRADIENT:
        said.append(f"its gradient is larger than {min(int(e.gradient_percentile), 99)} % of all")
    return said


def _against(e: _Evidence) -> str:
    """What speaks for the given label all the same."""
    if e.neighbours and (e.neighbours_given or 0) > (e.neighbours_suggested or 0) > 0:
        return f"; only {e.neighbours_suggested} are labelled {_short(e.suggested_label)}"
    if e.fitted and (e.learned_share or 0) >= 0.5:
        return f"; yet the network learned {_short(e.given_label)}"
    return ""


def _joined(parts: list[str]) -> str:
    *first, last = [part for part in parts if part] or [""]
    return f"{', '.join(first)}, and {last}" if first else last


def _bracket(share: float | None) -> str:
    return "" if share is None else f" ({_percent(share)})"


def _short(label: str | None) -> str:
    """A class name on one line, cut where it is too long; names are compared whole."""
    text = " ".join((label or "").split())
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def _percent(share: float) -> str:
    """Whole per cents, half up; what is neither none nor all is not rounded to it."""
    whole = int(share * 100 + 0.5)
    if whole == 0 and share > 0:
        return "below 1 %"
    return "over 99 %" if whole == 100 and share < 1 else f"{whole} %"


def _witness(evidence: Mapping[str, Any]) -> str:
    return _value("witness", evidence.get("witness")) or HEAD


def _value(name: str, value: Any) -> Any:
    if value is None or value is pd.NA or value != value:
        return None
    if name in _TEXTS:
        return str(value)
    return bool(value) if name == "fitted" else int(value) if name in _COUNTS else float(value)
