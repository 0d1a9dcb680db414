"""What is shown to a room: one slide after another, and the blocks that the report shares with them.

`slides(story, images)` gives the slides in order. A slide is a title of text and a body of HTML whose names, labels
and notes are escaped. The report lays the same slides under each other and adds the details; `core/export/slides.css`
knows both looks: a block in a page, and a screen of its own inside `.presenting`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from core.export.map_picture import by_class, drawing, legend
from core.export.markup import (
    Images,
    across,
    arrow,
    badge,
    bar,
    card,
    counted,
    element,
    figures,
    listed,
    name,
    paragraph,
    percent,
    plain,
    short,
    text,
)
from core.export.proof import Slide as Slide
from core.export.proof import proof_limits, proof_next, proof_slides
from core.export.story import MapPoints, Pair, Story
from core.review.changes import LOSS_SHARE
from core.review.decisions import EXCLUDE, KEEP, RELABEL, UNSURE
from core.review.flags import share_flagged
from core.review.present import heavy_on
from core.review.present import plain as plain_rows

PAIRS_ON_SLIDES = 3
PAIRS_IN_CHART = 6
ON_A_SLIDE = 6  # images of a pair; the page shows more
STRIP = 12


UNMEASURED = "Whether a network trained on the cleaned set is better has not been measured here."
PARTS = {
    "looked": "What was looked at",
    "headline": "What was found",
    "map": "The map",
    "pairs": "The worst class pairs",
    "cases": "A closer look",
    "decided": "What was decided",
    "proof": "Did it help?",
    "limits": "What this does not tell",
    "next": "What is next",
}


def slides(story: Story, images: Images, top: int = 8) -> list[Slide]:
    """The slides of a project, in the order of `PARTS`.

    Args:
        story: from `core.export.story.tell`.
        images: gives the encoded image of each id, or None; asked once for each slide.
        top: how many images of a class pair the page shows (a screen shows the first six of them).
    """
    return [
        Slide("looked", f"{short(story.name)}: what was looked at", looked(story, images)),
        Slide("headline", headline(story), found(story)),
        *(Slide("map", map_title(points), map_block(points, story)) for points in story.maps[:1]),
        *(Slide("pairs", pair_title(pair), pair_block(pair, story, images, top))
          for pair in story.pairs[:PAIRS_ON_SLIDES]),
        *(Slide("cases", case_title(story, sample), case_block(story, sample, images)) for sample in story.cases),
        Slide("decided", decided_title(story), decided(story, images)),
        *proof_slides(story, images),
        Slide("limits", "What this does not tell", listed(map(text, limits(story)))),
        Slide("next", "What is next", listed(next_steps(story), "ol")),
    ]  # fmt: skip


# What was looked at, and what was found


def looked(story: Story, images: Images) -> str:
    """Counts, and one image of each class."""
    values = [
        (f"{story.images:,}", "images"),
        (f"{len(story.classes):,}", "classes"),
        (f"{len(story.ranked):,}", "to train on, ranked"),
        (f"{story.held_out:,}", "held out"),
        (f"{sum(story.set_aside.values()):,}", "set aside"),
    ]
    shown = list(story.examples.items())
    data = images([sample for _, sample in shown])
    cards = "".join(card(data.get(sample), f"{sample}, labelled {label}", name(label)) for label, sample in shown)
    more = len(story.classes) - len(shown)
    rest = f" {counted(more, 'class', 'classes')} more are not shown." if more > 0 else ""
    told = (
        f"One training image of each class: of the calmer half, the one whose label the network is surest of.{rest}"
        if shown
        else ""
    )
    return figures(values) + element("div", cards, f"strip {across(len(shown))}") + paragraph(told, "muted")


def headline(story: Story) -> str:
    """How many are flagged."""
    return f"{len(story.flagged):,} of {len(story.ranked):,} training images are flagged for a second look"


def found(story: Story) -> str:
    """The largest class pairs as bars, the review so far, and the truth where it is known."""
    pairs = story.pairs
    doubted = sum(pair.count for pair in pairs)
    held = len(story.flagged) - doubted
    most = f"{doubted:,}" if held else "all"
    usual = (
        f" {counted(held, 'image')} stand out for another reason, and the evidence agrees with the label."
        if held
        else ""
    )
    said = [
        f"The budget is {story.budget} of the training images: it says how many are flagged, whatever the data.",
        f"For {most} of them the evidence points to another class, in {counted(len(pairs), 'class pair')}.{usual}",
    ]
    reviewed, wrong = story.reviewed
    values = [(f"{len(story.flagged):,}", "flagged"), (f"{reviewed:,}", "of them decided on by a person")]
    if reviewed:
        values.append((f"{wrong:,}", f"of those relabelled or excluded ({percent(wrong / reviewed)})"))
    else:
        said.append(reviewed_sentence(story))
    if story.planted is not None:
        said.append(planted_sentence(story))
    chart = pair_chart(pairs[:PAIRS_IN_CHART])
    return figures(values) + element("div", listed(map(text, said)) + element("div", chart), "halves")


def pair_chart(pairs: Sequence[Pair]) -> str:
    """Class pairs with the number of their images as bars."""
    most = max((pair.count for pair in pairs), default=1)
    rows = "".join(
        f"<li><span>{arrow(pair.given, pair.suggested)}</span>{bar(pair.count / most)}<b>{pair.count:,}</b></li>"
        for pair in pairs
    )
    title = paragraph("The most frequent: given label → suggested label, flagged images", "muted")
    return f'{title}<ul class="chart">{rows}</ul>' if pairs else ""


def reviewed_sentence(story: Story) -> str:
    """How far the review is, and its yield so far."""
    reviewed, wrong = story.reviewed
    if not reviewed:
        return "No flagged image has been decided on yet, so nothing is removed or changed."
    sure = f"{wrong:,} of them ({percent(wrong / reviewed)}) were relabelled or excluded"
    return f"{reviewed:,} of {len(story.flagged):,} flagged images were decided on by a person; {sure}."


def planted_sentence(story: Story) -> str:
    """What the flags are worth where the truth is known."""
    every, hit = story.planted or (0, 0)
    chance = every * len(story.flagged) / max(len(story.ranked), 1)
    return (
        f"The true labels of this data are known: {hit:,} of the {len(story.flagged):,} flagged labels are wrong; "
        f"as many images drawn at random would hold about {chance:.0f}. {every:,} training labels are wrong in all."
    )


# The map


def map_title(points: MapPoints) -> str:
    """One title for each space."""
    return {
        "gradients": "The map of gradients",
        "features": "The map of features",
    }[points.space]


def map_block(points: MapPoints, story: Story) -> str:
    """A map with its legend and what it tells."""
    colour = "the given label" if by_class(story.classes) else "suspicion"
    said = (
        f"Each dot is a training image, coloured by {colour}. Images that lie near each other "
        f"{'change the network alike' if points.space == 'gradients' else 'look alike to the network'}. "
        f"Neighbourhoods mean something; distances between groups do not. {points.note}"
    )
    caption = element("figcaption", paragraph(said) + legend(points, story.classes))
    return element("figure", drawing(points, story.classes) + caption, "mapped")


# Class pairs and single images


def pair_title(pair: Pair) -> str:
    """How many of which pair."""
    return f"{counted(pair.count, 'flagged image')} labelled {short(pair.given)} may be {short(pair.suggested)}"


def pair_block(pair: Pair, story: Story, images: Images, top: int = 8) -> str:
    """The most suspicious images of a class pair, each with its sentence."""
    ids = list(pair.ids[:top])
    data = images(ids)
    cards = "".join(suspect(sample, story.row(sample), data.get(sample)) for sample in ids)
    more = f"and {pair.count - len(ids):,} more" if pair.count > len(ids) else ""
    shown = min(len(ids), ON_A_SLIDE)
    return f'<div class="suspects n{shown}">{cards}</div>{paragraph(more, "muted more") if more else ""}'


def suspect(sample: str, row: Mapping[str, Any], data: bytes | None) -> str:
    """One suspicious image with its sentence and what was decided about it."""
    caption = (
        f'<span class="says">{suggestion(row)}{badge(row["action"])}</span>'
        f'<span class="why">{text(row["reason"])}</span><span class="id">{name(sample)}</span>'
    )
    return card(data, alt(sample, row), caption)


def suggestion(row: Mapping[str, Any]) -> str:
    """The suggested class with its probability, as HTML."""
    if row["suggested_label"] is None:
        return "no suggestion"
    share = "" if row["suggested_prob"] is None else f", {percent(row['suggested_prob'])}"
    return f"suggested {name(short(row['suggested_label']))}{share}"


def alt(sample: str, row: Mapping[str, Any]) -> str:
    """What an image is, in words."""
    other = row["suggested_label"]
    told = "" if other in (None, row["given_label"]) else f", suggested {other}"
    return f"{sample}, labelled {row['given_label']}{told}"


def case_title(story: Story, sample: str) -> str:
    """The question that the three images ask."""
    row = story.row(sample)
    return f"{short(row['given_label'])}, or {short(row['suggested_label'])}?"


def case_block(story: Story, sample: str, images: Images) -> str:
    """A suspect between an image of its given and one of its suggested class, and the sentence."""
    row = story.row(sample)
    given, other = str(row["given_label"]), str(row["suggested_label"])
    beside = story.cases[sample]
    sides = [(given, beside["given"]), (other, beside["suggested"])]
    data = images([sample, *(example for _, example in sides if example)])
    left, right = (
        card(data.get(example), f"{example}, labelled {label}", f"for comparison: {name(label)}", "side")
        if example
        else card(None, f"no example of {label}", f"no example of {name(label)}", "side")
        for label, example in sides
    )
    middle = card(
        data.get(sample), alt(sample, row),
        f"labelled <b>{name(given)}</b>, suggested <b>{name(other)}</b>{badge(row['action'])}", "main",
    )  # fmt: skip
    where = f"Place {int(row['rank']):,} of {len(story.ranked):,} in the ranking"
    note = "" if row["note"] is None else f'<p class="note">Note: {text(row["note"])}</p>'
    return (
        f'<div class="trio">{left}{middle}{right}</div><p class="sentence">{text(row["reason"])}</p>{note}'
        f'<p class="muted">{text(where)}: {name(sample)}</p>'
    )


# What was decided


def decided_title(story: Story) -> str:
    """How many images people decided on."""
    count = len(story.decisions)
    return f"{counted(count, 'image')} decided on by people" if count else "Nothing has been decided yet"


def decided(story: Story, images: Images) -> str:
    """Counts of each decision, the yield, and some of the images that change."""
    if story.decisions.empty:
        return paragraph("A flag is a proposal. Nothing leaves the data set before a person has decided it.") + (
            paragraph("Every image stays, with the label it came with.", "muted")
        )
    of_all = story.changes
    values = [
        (f"⇄ {of_all.relabelled:,}", "relabelled"), (f"✕ {of_all.excluded:,}", "excluded"),
        (f"✓ {of_all.kept:,}", "kept"), (f"? {of_all.unsure:,}", "unsure, stay in"),
        (f"{of_all.untouched:,}", "undecided, stay in"),
    ]  # fmt: skip
    said = [f"Counted are all {of_all.before:,} images, training and held out. {reviewed_sentence(story)}"]
    if losers := story.losers():
        told = ", ".join(f"{short(label)} {percent(lost)}" for label, lost in list(losers.items())[:5])
        said.append(f"Classes that lose more than {percent(LOSS_SHARE)} of their training images: {told}.")
    changed = story.decisions[story.decisions["action"].isin([RELABEL, EXCLUDE])]
    strip = decided_strip(changed.head(STRIP // 2), images)
    return figures(values) + "".join(map(paragraph, said)) + strip


def decided_strip(rows: pd.DataFrame, images: Images) -> str:
    """Decided images side by side: label → label or what else was decided, and the note."""
    ids = [str(sample) for sample in rows.index]
    data = images(ids)
    cards = []
    for sample, row in zip(ids, plain_rows(rows), strict=True):
        what = arrow(row["given_label"], row["final_label"]) if row["action"] == RELABEL else name(row["given_label"])
        note = "" if row["note"] is None else f'<span class="note">{text(row["note"])}</span>'
        said = f"{sample}, labelled {row['given_label']}, {change(row)}"
        cards.append(card(data.get(sample), said, f"{what}{badge(row['action'])}{note}"))
    return f'<div class="strip {across(len(cards))}">{"".join(cards)}</div>' if cards else ""


def change(row: Mapping[str, Any]) -> str:
    """A decision in words."""
    words = {KEEP: "label kept", EXCLUDE: "excluded", UNSURE: "unsure", RELABEL: f"relabelled {row['final_label']}"}
    return words.get(str(row["action"]), str(row["action"]))


# What this does not tell, and what is next


def limits(story: Story) -> list[str]:
    """What must not be read into the figures."""
    uneven = heavy_on(share_flagged(story.ranked))
    heavy = f" Here it falls heavily on {', '.join(map(plain, uneven))}." if uneven else ""
    return [
        "Hard is not wrong. A flag says that the label and the evidence disagree; only a person says that it is wrong.",
        f"A budget of {story.budget} always flags {len(story.flagged):,} images, also where every label is right: the "
        "number of flags is no estimate of the number of wrong labels.",
        f"A cut over all classes falls hardest on rare and hard ones.{heavy}",
        "What is not flagged was not shown to be right.",
        "The network learned from these very labels: a mistake that is made throughout cannot be seen.",
        "Percentages of classes are estimates of a network, not measurements.",
        "The yield covers the images that were looked at; it is no rate for the rest.",
        *(proof_limits(story.proof) if story.proof else [UNMEASURED]),
    ]


def next_steps(story: Story) -> list[str]:
    """What a reader can do now, as HTML."""
    steps = []
    if left := story.progress["left"]:
        steps.append(f"Decide on the {counted(left, 'flagged image')} that nobody has looked at.")
    if unsure := story.changes.unsure:
        steps.append(f"Have a second person look at the {counted(unsure, 'image')} marked unsure.")
    changed = story.changes.relabelled + story.changes.excluded
    steps.append(
        f"Export the cleaned manifest with its {counted(changed, 'change')}: the log of decisions goes with it."
        if changed
        else "Export the manifest once there are decisions: the log goes with it."
    )
    steps += proof_next(story.proof)
    return [text(step) for step in steps]
