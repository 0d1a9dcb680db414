"""A project with hand-made findings and decisions, whose names try to be markup: what a report has to stand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from core.commands import new
from core.findings import Findings
from core.project import Project
from core.review.decisions import Review
from core.verify.arms import decisions_mark
from core.verify.record import place
from tests.fake_verification import fake_verification
from tests.helpers import drawn

IMG = "<img src=x onerror=alert(1)>"
LINK = "javascript:alert(1)"
PLAIN = "cat"
FILE = 'a"><svg onload=alert(2)>.png'
REVIEWER = '"><script>alert(3)</script>'
NOTE = "</script></style><img src=x onerror=alert(4)>"
CLASSES = (IMG, PLAIN, LINK)  # in the order of their code points
PER_CLASS = 12
BUDGET = "20%"


def reported_project(root: Path, *, maps: bool = True, decided: bool = True, verified: bool = False) -> Project:
    """36 images of three classes, 33 to train on; `verified` as `verify` says.

    The first of the ranking: four `IMG` suggested `PLAIN`, two `PLAIN` suggested `IMG`, one `LINK` that stands.
    """
    for code, label in enumerate(CLASSES):
        folder = root / "images" / label
        folder.mkdir(parents=True)
        for row in range(PER_CLASS):
            name = FILE if (code, row) == (0, 0) else f"{row:02d}.png"
            (folder / name).write_bytes(drawn(code % 2, 100 * code + row))
    new(root / "project", f"folder:{root / 'images'}", val_fraction=0.1)
    project = Project.open(root / "project").with_config(budget=BUDGET)
    manifest = project.manifest()
    findings = _findings(manifest.rows, manifest.classes, maps)
    scores, drawn_maps = project.folder / "stages" / "scores-0", project.folder / "stages" / "map-0"
    scores.mkdir()
    findings.save_scores(scores)
    drawn_maps.mkdir()
    for space, xy in findings.maps.items():
        np.save(drawn_maps / f"{space}.npy", xy)
    project.remember({"scores": scores, "map": drawn_maps})
    if decided:
        decide(project)
    if verified:
        verify(project)
    return project


def suspects(project: Project) -> list[str]:
    """The training images in the order of the ranking."""
    samples = project.findings().samples
    rows = samples[samples["split"] == "train"]
    return [str(each) for each in rows.sort_values("suspicion", ascending=False).index]


def decide(project: Project) -> None:
    """Of the seven flagged: one relabelled with a note, one excluded, one kept, one unsure."""
    ranked = suspects(project)
    review = Review(project, reviewer=REVIEWER)
    review.decide([ranked[0]], "relabel", label=PLAIN, note=NOTE)
    review.decide([ranked[1]], "exclude")
    Review(project, reviewer="bo").decide([ranked[2]], "keep")
    review.decide([ranked[4]], "unsure")


def verify(
    project: Project, form: str = "full", *, made_at: str = "2026-03-01T12:00:00", now: bool = True, effect: float = 0.3
) -> None:
    """A made-up verification of the decisions in effect (or, without `now`, of others); all images are its test set.

    Half of the `IMG` training images change, and some `IMG` test images are then told for another class: it pays.
    """
    rows = project.manifest().rows
    ids = tuple(str(each) for each in rows["sample_id"])
    made = fake_verification(
        m=len(ids), form=form, k=3 if form == "full" else 20, effect=effect, classes_effect={"cat": -2.5 * effect},
        noise=0.005, made_at=made_at,
    )  # fmt: skip
    named = dict(zip(("cat", "dog", "fox"), CLASSES, strict=True))
    groups = {"class": tuple(named[each] for each in made.groups["class"]), f"meta_{IMG}": (NOTE,) * len(ids)}
    changed = {"class": {IMG: 6, PLAIN: 1, LINK: 0}, f"meta_{IMG}": {NOTE: 7}}
    mark = decisions_mark(Review(project, reviewer="bo", read_only=True).current(), ids)
    verification = replace(
        made, classes=CLASSES, groups=groups, network=IMG, notes=(NOTE,), settings={LINK: IMG},
        test=replace(made.test, ids=ids, note=NOTE),
        group_sizes={"class": dict.fromkeys(CLASSES, 11), f"meta_{IMG}": {NOTE: 33}},
        outcomes=tuple(replace(each, changed_per=changed if each.changes else {}) for each in made.outcomes),
        decisions=mark if now else {"changed": 40, "digest": "other"},
    )  # fmt: skip
    verification.save(place(project.verify, verification))


def _findings(rows: pd.DataFrame, classes: tuple[str, ...], maps: bool) -> Findings:
    rng, n = np.random.default_rng(0), len(rows)
    given, split = rows["given_label"].astype(str), rows["split"].astype(str)
    train = (split == "train").to_numpy(bool)
    place = {label: list(np.flatnonzero(train & (given == label).to_numpy(bool))) for label in CLASSES}
    ids = rows["sample_id"].astype(str).tolist()
    ordered = sorted(place[IMG], key=lambda row: FILE not in ids[row])  # the hostile file name stands first
    first = ordered[:4] + place[PLAIN][:2] + place[LINK][:1]
    suspicion = np.linspace(50, 1, n)
    suspicion[first] = 100 - np.arange(len(first))
    suggested = given.copy()
    for row in first:
        suggested.iloc[row] = {IMG: PLAIN, PLAIN: IMG, LINK: LINK}[given.iloc[row]]
    codes = pd.Index(classes).get_indexer(pd.Index(given))
    head = np.full((n, len(classes)), 0.1, np.float32)
    head[np.arange(n), codes] = 0.8
    samples = pd.DataFrame({
        "sample_id": rows["sample_id"], "filepath": rows["filepath"], "split": split, "given_label": given,
        "predicted_label": given, "predicted_prob": 0.5, "suggested_label": suggested, "suggested_prob": 0.75,
        "suspicion": suspicion,
        "reason": [f"Labelled {a}, probably {b}: <b>reason</b>." for a, b in zip(given, suggested, strict=True)],
        "score_oga_forest": suspicion, "raw_oga_forest": suspicion,
        "score_oga_l1": -suspicion, "raw_oga_l1": suspicion,
    }).set_index("sample_id")  # fmt: skip
    run = {
        "settings": {"seed": 0, "trees": 20}, "epochs": 2, "device": "cpu", "tool": "0", "manifest": "abc",
        "suspicion": {"scores": ["weighted_aum"], "memorised": False, "why": "of <i>this</i>"},
    }  # fmt: skip
    drawn_maps = {space: rng.normal(size=(n, 2)).astype(np.float32) for space in ("gradients", "features")}
    return Findings(samples, classes, run, head, np.zeros((2, n), np.float32), {}, drawn_maps if maps else {})
