"""Copies as a person looks at them: whole groups, those that disagree about the label first, then those across splits.

The table of copies comes from `core.data.copies`; labels, splits and decisions are those of today.

- `copy_groups`: the groups as plain rows; `summed` what they amount to.
- `standing`: one word per image, for a filter; `copies_of` the other images of one group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from core.review.decisions import UNDECIDED

NONE, SAME_LABEL, OTHER_LABEL, OTHER_SPLIT = "", "same label", "other label", "other split"
STANDINGS = (OTHER_LABEL, OTHER_SPLIT, SAME_LABEL)  # in the order in which they want to be looked at
EXACT = "exact"


def copy_groups(
    copies: pd.DataFrame, samples: pd.DataFrame, decisions: pd.DataFrame, top: int | None = None
) -> list[dict[str, Any]]:
    """The groups of copies, the ones to look at first in front.

    Args:
        copies: sample_id, group, copy_of, kind and difference of every image that has a copy.
        samples: indexed by sample_id, with given_label and split.
        decisions: `Review.current()`.
        top: how many groups; None for all.

    Returns:
        kind ("exact" where every copy is, else "near"), labels_differ, splits_differ, difference (the largest), and
        samples: id, label, split, action, kind, difference, copy_of. First those whose labels differ, then those across
        splits; within each the likest first.
    """
    lines = _joined(copies, samples)
    lines["action"] = _actions(lines["sample_id"], decisions)
    by_group = lines.groupby("group", sort=True)
    facts = by_group.agg(difference=("difference", "max"), first=("sample_id", "first"))
    facts["labels_differ"] = by_group["given_label"].nunique() > 1
    facts["splits_differ"] = by_group["split"].nunique() > 1
    facts["kind"] = np.where(by_group["kind"].agg(lambda kinds: set(kinds) == {EXACT}), EXACT, "near")
    order = facts.sort_values(
        ["labels_differ", "splits_differ", "difference", "first"], ascending=[False, False, True, True], kind="stable"
    )
    parts = {group: part.to_dict("records") for group, part in by_group}
    return [
        {
            "kind": str(row["kind"]), "labels_differ": bool(row["labels_differ"]),
            "splits_differ": bool(row["splits_differ"]), "difference": round(float(row["difference"]), 3),
            "samples": [_sample(line) for line in parts[row["group"]]],
        }
        for row in order.head(len(order) if top is None else max(top, 0)).reset_index().to_dict("records")
    ]  # fmt: skip


def summed(groups: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count groups and what is odd about them: groups, images, exact, labels_differ, splits_differ."""
    return {
        "groups": len(groups),
        "images": sum(len(group["samples"]) for group in groups),
        "exact": sum(group["kind"] == EXACT for group in groups),
        "labels_differ": sum(group["labels_differ"] for group in groups),
        "splits_differ": sum(group["splits_differ"] for group in groups),
    }


def sentence(counts: Mapping[str, int]) -> str:
    """`summed` in words: "97 groups of copies (1 exact), 197 images: 30 disagree about the label, 5 cross splits"."""
    if not counts["groups"]:
        return "No copies were found."
    return (
        f"{counts['groups']:,} groups of copies ({counts['exact']:,} exact), {counts['images']:,} images: "
        f"{counts['labels_differ']:,} disagree about the label, {counts['splits_differ']:,} cross splits"
    )


def standing(copies: pd.DataFrame | None, samples: pd.DataFrame) -> pd.Series[Any]:
    """Where each of `samples` stands: "" without a copy, else the first of `STANDINGS` that is true of its group."""
    found = pd.Series(NONE, index=samples.index, dtype=object)
    if copies is None or not len(copies):
        return found
    lines = _joined(copies, samples)
    by_group = lines.groupby("group")
    labels, splits = by_group["given_label"].transform("nunique") > 1, by_group["split"].transform("nunique") > 1
    words = np.where(labels, OTHER_LABEL, np.where(splits, OTHER_SPLIT, SAME_LABEL))
    found.loc[lines["sample_id"].tolist()] = words
    return found


def copies_of(
    copies: pd.DataFrame | None, samples: pd.DataFrame, sample_id: str, most: int = 12
) -> list[dict[str, Any]]:
    """The other images of a sample's group, its likest copy first: id, label, split, kind, difference."""
    if copies is None or not (found := (copies["sample_id"] == sample_id).to_numpy(bool)).any():
        return []
    mine = copies.iloc[int(np.argmax(found))]
    lines = _joined(copies[(copies["group"] == mine["group"]).to_numpy(bool)], samples)
    others = lines[(lines["sample_id"] != sample_id).to_numpy(bool)]
    nearest = (others["sample_id"] == mine["copy_of"]).to_numpy(bool)
    order = np.lexsort((others["difference"].to_numpy(float), ~nearest))
    shown = others.iloc[order[:most]].to_dict("records")
    return [{name: row[name] for name in ("id", "label", "split", "kind", "difference")} for row in map(_sample, shown)]


def _joined(copies: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """The copies with label and split; unknown images are left out, groups of one with them."""
    known = samples[["given_label", "split"]].astype(object)
    lines = copies.join(known, on="sample_id", how="inner")
    size = lines.groupby("group")["sample_id"].transform("size")
    return lines[(size > 1).to_numpy(bool)].reset_index(drop=True)


def _actions(ids: pd.Series[Any], decisions: pd.DataFrame) -> list[str]:
    known = decisions["action"].to_dict()
    return [str(known.get(sample, UNDECIDED)) for sample in ids]


def _sample(line: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "id": str(line["sample_id"]), "label": str(line["given_label"]), "split": str(line["split"]),
        "action": str(line.get("action", UNDECIDED)), "kind": str(line["kind"]),
        "difference": round(float(line["difference"]), 3), "copy_of": str(line["copy_of"]),
    }  # fmt: skip
