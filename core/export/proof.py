"""Did it help? The slides and details of a verification: the verdict with its picture, changed predictions, who pays.

The figures are those of the screen, from `core.verify.shown`. Pictures are drawn with classes of `slides.css`, so that
they follow the reader's light or dark setting; what they show stands beside them as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

from core.export.markup import (
    Images,
    across,
    arrow,
    card,
    counted,
    element,
    facts,
    figures,
    listed,
    name,
    paragraph,
    percent,
    plain,
    table,
    text,
)
from core.verify.arms import DECIDED
from core.verify.record import FULL
from core.verify.shown import NATS, Shown, group_title

if TYPE_CHECKING:
    from core.export.story import Proof, Story
else:
    Proof: TypeAlias = Any  # `story` reads them with what is imported here
    Story: TypeAlias = Any

PICTURES = 6  # of each kind
WARNINGS = 6  # on a slide
GROUPS = 2  # groupings in the picture; the table has all
MOST_ROWS = 60  # of a grouping in a table
NOT_YET = "Check whether it helps with `gradsift verify`: as given, as decided, and with as many removed at random."
AGAIN = "Check again with `gradsift verify`: the decisions have changed since."
RETRAIN = "Retrain the whole network with `gradsift verify --full`: so far only a last layer was trained anew."
OTHERS = "Have people check the labels of the test set: no comparison is sharper than the labels it is measured on."
WIDE, HIGH, EDGE = 300.0, 170.0, 44.0  # of a picture of curves


@dataclass(frozen=True)
class Slide:
    """One slide: the part of the report it belongs to, its title as text, its body as HTML."""

    part: str
    title: str
    html: str


def proof_slides(story: Story, images: Images) -> list[Slide]:
    """The slides of a verification: none where there is none."""
    proof = story.proof
    if proof is None:
        return []
    shown, slides = proof.shown, [Slide("proof", proof_title(proof), proof_block(proof))]
    if shown.curves:
        slides.append(Slide("proof", "How the trainings went", curves_block(shown)))
    if shown.fixed_count or shown.broken_count:
        slides.append(Slide("proof", changed_title(shown), changed_block(shown, images)))
    if shown.warnings:
        slides.append(Slide("proof", "Who pays for it", warnings_block(shown.warnings)))
    return slides


def proof_title(proof: Proof) -> str:
    """The verdict as a sentence; of which decisions, where they have changed since."""
    shown = proof.shown
    said = shown.headline if shown.arm == DECIDED else f"{shown.title}: {shown.word}"
    return f"{said} (earlier decisions)" if proof.stale else said


def proof_block(proof: Proof) -> str:
    """The figures, the differences as a picture, what they were measured on, and the rule."""
    shown = proof.shown
    told = [paragraph(proof.stale, "stale")] if proof.stale else []
    told += [paragraph(shown.sentence), paragraph(f"{form_sentence(proof)} {shown.test}", "muted")]
    values = [(value, what) for what, value, _ in shown.figures]
    picture = element("div", forest(in_picture(shown.differences)), "measured")
    rule = paragraph(f"The rule. {shown.rule}", "muted rule")
    return figures(values) + element("div", picture + element("div", "".join(told) + rule), "halves")


def form_sentence(proof: Proof) -> str:
    """What was trained, in a sentence."""
    v = proof.verification
    if v.form == FULL:
        seeds = f"{len(v.seeds)} seeds for each arm" if len(v.seeds) != 1 else "one seed for each arm"
        return f"The whole network was trained again ({v.network}), {seeds}, all with the same number of steps."
    control = v.control(proof.shown.arm)
    draws = f"; rows at random were drawn {len(control.predicted)} times" if control else ""
    return f"Only a last layer was trained anew ({v.network}){draws}."


# The differences, as a picture whose every row is text too


def in_picture(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The differences that a screen has room for: beside accuracy, class and log-loss those of a few groupings."""
    worst = list(dict.fromkeys(row["name"] for row in rows if row["name"].startswith("Worst ")))
    return [row for row in rows if row["name"] not in worst[1 + GROUPS :]]


def forest(rows: Sequence[Mapping[str, Any]]) -> str:
    """Differences with their intervals: one scale for each unit, the line of no difference through all of its rows."""
    units = dict.fromkeys(row["unit"] for row in rows)
    return "".join(_forest([row for row in rows if row["unit"] == unit], unit) for unit in units)


def _forest(rows: Sequence[Mapping[str, Any]], unit: str) -> str:
    low, high = span([row[end] for row in rows for end in ("low", "high")])
    items = ""
    for against, each in groupby(rows, key=lambda row: row["against"]):
        items += f'<li class="against">{text(against)}</li>'
        items += "".join(
            f"<li><span>{text(row['name'])}</span>{whisker(row, low, high, better_left=unit == NATS)}"
            f"<b>{text(row['told'])}</b></li>"
            for row in each
        )
    scale = paragraph(f"Difference in {unit}", "muted") + f'<ul class="forest">{items}</ul>'
    return element("div", scale, "nats" if unit == NATS else "points")


def span(values: Sequence[float]) -> tuple[float, float]:
    """The ends of a scale that holds `values` and 0, with a little room."""
    low, high = min([0.0, *values]), max([0.0, *values])
    room = 0.04 * (high - low) or 1.0
    return low - room, high + room


def whisker(row: Mapping[str, Any], low: float, high: float, *, better_left: bool = False) -> str:
    """One difference on a scale from `low` to `high`; decoration beside its figures."""
    zero, left, right, middle = (
        100 * (value - low) / (high - low) for value in (0.0, row["low"], row["high"], row["value"])
    )
    side = "worse" if row["high"] < 0 else "better" if row["low"] > 0 else "even"
    kind = {"worse": "better", "better": "worse"}.get(side, side) if better_left else side
    return (
        f'<svg class="whisker {kind}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="zero" d="M{zero:.2f} 0V10"/><path class="range" d="M{left:.2f} 5H{right:.2f}"/>'
        f'<path class="middle" d="M{middle:.2f} 1.5V8.5"/></svg>'
    )


# Learning curves


def curves_block(shown: Shown) -> str:
    """Each measure over the epochs: the mean of the seeds, and a band from the lowest to the highest."""
    pictures = "".join(
        f'<figure class="curve">{curve(title, lines)}<figcaption>{text(title)}: {text(last(lines))}</figcaption>'
        "</figure>"
        for title, lines in shown.curves.items()
    )
    lines = next(iter(shown.curves.values()))
    key = "".join(
        f'<li><svg class="mark" viewBox="0 0 16 16" aria-hidden="true"><path class="{_kind(at, line)}" d="M0 8H16"/>'
        f"</svg>{text(line['name'])}</li>"
        for at, line in enumerate(lines)
    )
    said = "A line is the mean of the seeds, its band goes from the lowest to the highest. The last epoch counts."
    return f'<ul class="legend">{key}</ul><div class="curves">{pictures}</div>{paragraph(said, "muted")}'


def curve(title: str, lines: Sequence[Mapping[str, Any]]) -> str:
    """One measure of several arms over the epochs."""
    values = [value for line in lines for end in ("low", "high") for value in line[end]]
    low, high = min(values), max(values)
    epochs = max(len(line["mean"]) for line in lines)
    across_, up = WIDE - EDGE - 4, HIGH - EDGE

    def place(epoch: int, value: float) -> str:
        x = EDGE + across_ * epoch / max(epochs - 1, 1)
        return f"{x:.1f} {4 + up * (1 - (value - low) / ((high - low) or 1.0)):.1f}"

    def path(numbers: Sequence[float]) -> str:
        return "L".join(place(epoch, value) for epoch, value in enumerate(numbers))

    drawn_ = ""
    for at, line in enumerate(lines):
        back = "L".join(reversed([place(epoch, value) for epoch, value in enumerate(line["low"])]))
        drawn_ += f'<path class="band {_kind(at, line)}" d="M{path(line["high"])}L{back}Z"/>'
        drawn_ += f'<path class="{_kind(at, line)}" d="M{path(line["mean"])}"/>'
    said = f"{title} over {epochs} epochs: {last(lines)}"
    return (
        f'<svg class="curve" viewBox="0 0 {WIDE:g} {HIGH:g}" role="img" aria-label="{text(said)}">{drawn_}'
        f'<text x="{EDGE - 4:g}" y="12" class="end">{high:.3g}</text>'
        f'<text x="{EDGE - 4:g}" y="{4 + up:g}" class="end">{low:.3g}</text>'
        f'<text x="{EDGE:g}" y="{HIGH - 10:g}">epoch 1</text>'
        f'<text x="{WIDE - 4:g}" y="{HIGH - 10:g}" class="end">{epochs}</text></svg>'
    )


def last(lines: Sequence[Mapping[str, Any]]) -> str:
    """What each line ends at, in words."""
    return ", ".join(f"{plain(line['name'])} {line['mean'][-1]:.3g}" for line in lines)


def _kind(at: int, line: Mapping[str, Any]) -> str:
    return "random" if line["random"] else "given" if at == 0 else "arm"


# Changed predictions, and who pays


def changed_title(shown: Shown) -> str:
    """How many test images became right, and how many wrong."""
    return f"{counted(shown.fixed_count, 'test image')} became right, {shown.broken_count:,} became wrong"


def changed_block(shown: Shown, images: Images) -> str:
    """The first images whose prediction changed, both ways."""
    sides = [("Became right", shown.fixed, shown.fixed_count), ("Became wrong", shown.broken, shown.broken_count)]
    data = images([row["id"] for _, rows, _ in sides for row in rows[:PICTURES]])
    blocks = ""
    for title, rows, count in sides:
        of = f", {PICTURES} of them" if count > PICTURES else ""
        cards = "".join(_changed(row, data.get(row["id"])) for row in rows[:PICTURES])
        blocks += paragraph(f"{title}: {count:,}{of}", "says")
        blocks += element("div", cards, f"strip {across(min(count, PICTURES))}") if cards else ""
    said = "Predicted before → after. Neither is the truth: a test label can be wrong as well."
    return blocks + paragraph(said, "muted")


def _changed(row: Mapping[str, Any], data: bytes | None) -> str:
    said = f"{row['id']}, labelled {row['label']}, predicted {row['before']} before and {row['after']} after"
    seen = f'<span class="why seen">{text(row["seen"])}</span>' if row["seen"] else ""
    caption = f'{arrow(row["before"], row["after"])}<span class="why">labelled {name(row["label"])}</span>{seen}'
    return card(data, said, caption)


def warnings_block(warnings: Sequence[str]) -> str:
    """The sentences on classes and groups that pay."""
    left = len(warnings) - WARNINGS
    more = paragraph(f"and {left:,} more, in the tables of the report", "muted") if left > 0 else ""
    said = "What is rare or hard is easily taken for wrong: look at these before the cleaned set is used."
    return listed(map(text, warnings[:WARNINGS])) + more + paragraph(said, "muted")


# What the page says beyond the slides


def proof_details(proof: Proof) -> str:
    """How it was measured, every arm, the differences and the classes and groups, as tables."""
    shown = proof.shown
    return (
        element("h3", "How it was measured") + facts(measured(proof))
        + element("h3", "The differences") + difference_table(shown)
        + element("h3", "All arms") + arm_table(shown)
        + element("h3", "Classes and groups")
        + "".join(group_table(group_title(grouping), rows) for grouping, rows in shown.groupings.items())
    )  # fmt: skip


def measured(proof: Proof) -> list[tuple[str, str]]:
    """Form, network, test set, seeds and settings, as terms with HTML."""
    v = proof.verification
    settings = ", ".join(f"{key} {value}" for key, value in v.settings.items() if value is not None and key != "scores")
    rows = [
        ("When", text(f"{v.made_at[:16].replace('T', ' ')} UTC, by {v.tool}")),
        ("What was trained", text(form_sentence(proof))),
        ("Test set", text(proof.shown.test)),
        ("Seeds", text(", ".join(map(str, v.seeds)))),
        ("Settings", text(settings or "as they come")),
        ("Decisions then", text(f"{int(v.decisions['changed']):,} training images changed")),
    ]
    return [row for row in rows if row[1]] + [("Note", text(note)) for note in v.notes]


def difference_table(shown: Shown) -> str:
    """The picture's rows as a table."""
    rows = [[text(row[key]) for key in ("name", "against", "told", "unit")] for row in shown.differences]
    head = ["Measure", "against", "difference [95 % interval]", "unit"]
    return table(head, rows, f"Differences: {shown.title}", numbers=(2,))


def arm_table(shown: Shown) -> str:
    """What each arm changes, what it reaches, and its verdict."""
    keys = ("arm", "kept", "removed", "relabelled", "weighted", "accuracy", "given", "random", "log_loss", "verdict")
    head = ["Arm", "kept", "removed", "relabelled", "up-weighted", "accuracy, %", "against given, points",
            "against random, points", "log-loss against given, nats", "verdict"]  # fmt: skip
    rows = [[_cell(row[key]) for key in keys] for row in shown.arms]
    return table(head, rows, "The arms of this verification", numbers=range(1, 9))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else text(value)


def group_table(grouping: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """What each value of a grouping gives up and gets, those that lose most first."""
    first = list(rows)[:MOST_ROWS]
    cells = [
        [name(row["name"]) + (' <span class="badge exclude">pays</span>' if row["pays"] else ""),
         f"{row['images']:,}", percent(row["share"]), f"{row['changed']:,}", percent(row["changed_share"]),
         _share(row["before"]), _share(row["after"]), text(row["told"]), f"{row['test_images']:,}"]
        for row in first
    ]  # fmt: skip
    head = ["Value", "training images", "share of the data", "changed", "share of the changed", "accuracy before, %",
            "after, %", "difference, points", "test images"]  # fmt: skip
    left = len(rows) - len(first)
    more = paragraph(f"and {left:,} more", "muted") if left > 0 else ""
    return table(head, cells, f"By {grouping}: what is given up, and what is got", numbers=range(1, 9)) + more


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


# What it does not tell, and what is next


def proof_limits(proof: Proof) -> list[str]:
    """What the verdict does not say."""
    return [*([proof.stale] if proof.stale else []), *proof.shown.limits]


def proof_next(proof: Proof | None) -> list[str]:
    """What can be done now about the question whether it helps."""
    if proof is None:
        return [NOT_YET]
    if proof.stale:
        return [AGAIN]
    return [OTHERS if proof.verification.form == FULL else RETRAIN]
