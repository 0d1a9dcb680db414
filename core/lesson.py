"""The idea on one image of the project: what a wrong label makes a network want, beside an image whose label fits.

The gradient of an image with respect to the last layer is made of two parts: what the network got wrong (a number for
each class) and what it saw (a number for each input of the last layer). `lesson` gives both for a suspect and for an
ordinary image of the same class, the lengths, the nearest images, and the place of all of them on the map, as plain
values. It reads what the last run left; nothing is computed anew but a softmax, and torch is not loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.axes import Array, Bool, Float, Integer
from core.errors import InputError, ProjectError
from core.findings import SPACES, Findings
from core.gradients.last_layer import LastLayerGradients
from core.review.decisions import EXCLUDE, RELABEL, UNSURE
from core.review.detail import detail
from core.review.flags import TRAIN

if TYPE_CHECKING:
    from core.project import Project

MOST_CLASSES, SIGNALS = 8, 24  # bars that are shown: of classes, the strongest, and of the layer's inputs
NEAR = 6
MOST_DOTS = 2_000  # of the map
CHOICE = 12  # suspects to choose from
DOUBTED = (RELABEL, EXCLUDE)


@dataclass(frozen=True)
class Look:
    """One image as the last layer met it.

    Attributes:
        wants: (class, error): how much more (above 0: less) of a class the network said than the label does; the
            given class and the largest others, `MOST_CLASSES` at most.
        others: how many classes are not listed.
        saw: those inputs of the last layer that are largest by size for the suspect, `SIGNALS` at most, in the order
            of the layer; empty where none were kept.
        inputs: how many inputs there are.
        error_norm, input_norm: lengths of the two parts, their product is `length`.
        percentile: share of the training images whose gradient is shorter, 0-100.
        near: id, label and similarity of the nearest training images.
        at: its place on the map, None where there is none.
    """

    id: str
    given: str
    suggested: str | None
    wants: tuple[tuple[str, float], ...]
    others: int
    saw: tuple[float, ...]
    inputs: int
    error_norm: float
    input_norm: float
    length: float
    percentile: float
    near: tuple[Mapping[str, Any], ...]
    at: tuple[float, float] | None


@dataclass(frozen=True)
class Lesson:
    """A suspect, an ordinary image of its class (None where there is none), and the map they lie on.

    Attributes:
        decided: what a person said of the suspect, "" where nobody did.
        dots: places of at most `MOST_DOTS` training images: x, y, and 1 for the given class, 2 for the suggested one.
        space: which map it is; "" where the run drew none.
        classes: how many classes the network knows.
    """

    suspect: Look
    ordinary: Look | None
    decided: str
    dots: tuple[tuple[float, float, int], ...]
    space: str
    classes: int


def suspects(findings: Findings, decisions: pd.DataFrame) -> list[str]:
    """Images to learn on: those that a person found wrong, then the most suspicious with another suggested label."""
    table = findings.samples
    train = table[_learned_from(table)]
    action = decisions["action"].reindex(train.index)
    differs = (train["suggested_label"] != train["given_label"]) & train["suggested_label"].notna()
    found = action.isin(DOUBTED).to_numpy(bool) & differs.to_numpy(bool)
    open_ = action.isna().to_numpy(bool) | (action == UNSURE).to_numpy(bool)
    ranked = train["suspicion"].sort_values(ascending=False, kind="stable").index
    first = [each for each in ranked if found[train.index.get_loc(each)]]
    then = [each for each in ranked[: 20 * CHOICE] if (differs & open_).loc[each]]
    return [str(each) for each in (first + then)[:CHOICE]]


def lesson(project: Project, findings: Findings, decisions: pd.DataFrame, sample: str) -> Lesson:
    """Everything the page shows of one image.

    Args:
        project: whose last run left logits and inputs of a last layer.
        findings: of that run.
        decisions: `Review.current()`.
        sample: one of the training images, see `suspects`.

    Raises:
        InputError: there is no such training image, or the run kept no logits.
        ProjectError: what it kept is damaged.
    """
    table = findings.samples
    if sample not in table.index[_learned_from(table)]:
        raise InputError(f"There is no labelled training image {sample!r} in this run. Choose another one.")
    gradients = factors(project, findings)
    rows = project.manifest().rows
    told = detail(findings, rows, decisions, sample, NEAR)
    train = np.flatnonzero(_learned_from(table))
    lengths = np.sort(np.asarray(gradients.l2())[train])
    space = next((each for each in SPACES if each in findings.maps), "")

    at = table.index.get_indexer(pd.Index([sample]))
    signals = _strongest(np.asarray(gradients.take(at).inputs[0], float)[:-1])

    def look(near: Mapping[str, Any]) -> Look:
        return _look(findings, gradients, lengths, signals, space, near)

    ordinary = told["examples"]["given"]
    decided = str(told["decision"]["action"]) if told["decision"] else ""
    dots = _dots(findings, space, train, told["given"], told["suggested"])
    beside = look(detail(findings, rows, decisions, ordinary, NEAR)) if ordinary else None
    return Lesson(look(told), beside, decided, dots, space, len(findings.classes))


def factors(project: Project, findings: Findings) -> LastLayerGradients:
    """The factors of the last run, of the person's network where it has one, else of the reference network.

    The inputs are empty where only logits were kept.

    Raises:
        InputError: the run kept no logits of a network that knows these classes.
        ProjectError: a file is damaged.
    """
    folder = _folder(project, findings)
    if folder is None:
        raise InputError("The last run kept no outputs of a network, so there is nothing to take apart here.")
    try:
        bias = bool(json.loads((folder / "run.json").read_text("utf-8")).get("bias", True))
        logits = np.load(folder / "logits.npy", mmap_mode="r")
        there = (folder / "inputs.npy").exists()
        inputs = np.load(folder / "inputs.npy", mmap_mode="r") if there else np.zeros((len(logits), 0), np.float32)
    except (OSError, ValueError, EOFError) as error:
        raise ProjectError(f"{folder} cannot be read ({error}). Delete it and run `gradsift sift` again.") from error
    if logits.shape != (len(findings), len(findings.classes)):
        raise InputError("The network of the last run knows other classes than the labels, so it wants none of these.")
    return LastLayerGradients.lazily(logits, _codes(findings), inputs, bias=bias)


def _learned_from(table: pd.DataFrame) -> Bool[Array, " n"]:
    return np.asarray((table["split"] == TRAIN).to_numpy(bool) & table["given_label"].notna().to_numpy(bool))


def _strongest(inputs: Float[Array, " _"]) -> Integer[Array, " _"]:
    return np.sort(np.argsort(-np.abs(inputs), kind="stable")[:SIGNALS])


def _folder(project: Project, findings: Findings) -> Path | None:
    keys: Mapping[str, str] = findings.run.get("stages") or {}
    found = (project.stages.find(stage, str(keys[stage])) for stage in ("network", "features") if stage in keys)
    return next((each for each in found if each is not None and (each / "logits.npy").exists()), None)


def _codes(findings: Findings) -> Array:
    """Label codes; a row without one of the classes gets 0, and is never looked at."""
    codes = pd.Index(findings.classes).get_indexer(pd.Index(findings.samples["given_label"]))
    return np.maximum(codes, 0).astype(np.int64)


def _look(
    findings: Findings, gradients: LastLayerGradients, lengths: Float[Array, " _"], signals: Integer[Array, " _"],
    space: str, told: Mapping[str, Any],
) -> Look:  # fmt: skip
    sample = str(told["id"])
    at = int(findings.samples.index.get_indexer(pd.Index([sample]))[0])
    one = gradients.take(np.array([at]))
    errors, inputs = np.asarray(one.errors[0], float), np.asarray(one.inputs[0], float)
    length = float(one.l2()[0])
    shown = _shown(errors, findings.classes.index(told["given"]))
    xy = np.asarray(findings.maps[space][at], float) if space else np.full(2, np.nan)
    return Look(
        id=sample, given=told["given"], suggested=told["suggested"],
        wants=tuple((findings.classes[code], float(errors[code])) for code in shown),
        others=len(errors) - len(shown),
        saw=tuple(float(value) for value in inputs[signals]), inputs=max(len(inputs) - 1, 0),
        error_norm=float(np.linalg.norm(errors)), input_norm=float(np.linalg.norm(inputs)), length=length,
        percentile=100 * float(np.searchsorted(lengths, length, side="left")) / max(len(lengths) - 1, 1),
        near=tuple(told["neighbours"].get("features") or told["neighbours"].get("gradients") or ()),
        at=(float(xy[0]), float(xy[1])) if np.isfinite(xy).all() else None,
    )  # fmt: skip


def _shown(errors: Float[Array, " c"], given: int) -> list[int]:
    """The given class, then the others by what the network wants of them."""
    others = [int(code) for code in np.argsort(-errors, kind="stable") if code != given]
    return [given, *others[: MOST_CLASSES - 1]]


def _dots(
    findings: Findings, space: str, train: Array, given: str | None, suggested: str | None
) -> tuple[tuple[float, float, int], ...]:
    if not space:
        return ()
    drawn = train if len(train) <= MOST_DOTS else np.sort(np.random.default_rng(0).permutation(train)[:MOST_DOTS])
    xy = np.asarray(findings.maps[space][drawn], float)
    label = findings.samples["given_label"].iloc[drawn]
    mark = np.where((label == suggested).to_numpy(bool), 2, 0)
    mark = np.where((label == given).to_numpy(bool), 1, mark)
    return tuple(
        (round(float(x), 3), round(float(y), 3), int(kind))
        for (x, y), kind in zip(xy, mark, strict=True) if np.isfinite([x, y]).all()
    )  # fmt: skip
