"""A verification whose effect is planted, for every test that reads one: nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from core.verify.record import FULL, QUICK, Outcome, TestSet, Verification

CLASSES = ("cat", "dog", "fox")
TRAINING_ROWS = 300  # 100 of each class


def fake_verification(
    k: int = 3,
    m: int = 60,
    effect: float = 0.15,
    *,
    form: str = FULL,
    random_effect: float = 0.0,
    classes_effect: Mapping[str, float] | None = None,
    noise: float = 0.02,
    controls: bool = True,
    scored: bool = False,
    changed: int = 30,
    seed: int = 0,
    made_at: str = "2026-03-01T12:00:00+00:00",
    digest: str = "",
) -> Verification:
    """As given 60 % of the test rows are right, with the decisions `effect` more.

    Args:
        k: seeds of the full form; draws of a control in the quick form.
        m: test rows, a third of each class.
        effect: of the decisions on the share of right predictions; random_effect: of the control.
        classes_effect: added to `effect` in single classes, by name.
        noise: how much a training varies from seed to seed, as a standard deviation of the share.
        controls: whether there are controls.
        scored: whether there is an arm `remove:oga_l2:30` too, half as good as the decisions.
        changed: training rows that an arm changes; half of them removed, half relabelled.
        digest: of the decisions.
    """
    labels = np.arange(m) % len(CLASSES)
    groups = {
        "class": tuple(CLASSES[code] for code in labels),
        "group": tuple("night" if row % 5 == 0 else "day" for row in range(m)),
        "cluster": tuple(f"{CLASSES[code]} {1 + row // 3 % 2}" for row, code in enumerate(labels)),
    }
    extra = np.array([(classes_effect or {}).get(name, 0.0) for name in CLASSES])[labels]
    plan = [("given", "as given", "", 0.0 * extra), ("decided", "with the decisions", "", effect + extra)]
    title = "as many removed at random"
    if controls:
        plan.append(("random for decided", title, "decided", random_effect + 0.0 * extra))
    if scored:
        name = "remove:oga_l2:30"
        plan.append((name, "30 most suspicious by oga_l2 removed", "", effect / 2 + 0.0 * extra))
        plan += [(f"random for {name}", title, name, random_effect + 0.0 * extra)] if controls else []
    rng = np.random.default_rng(seed)
    difficulty = rng.permutation(m) / m
    outcomes = tuple(
        _outcome(name, title, of, 0.6 + shift, k if form == FULL or of else 1, difficulty, labels, form, noise,
                 0 if name == "given" else changed, rng)
        for name, title, of, shift in plan
    )  # fmt: skip
    return Verification(
        form=form, made_at=made_at, tool="GradSift 0.1.0", project="pets", classes=CLASSES,
        test=TestSet("test", tuple(f"test/{row:04d}.png" for row in range(m)), labels, noise=0.03, known_noise=None,
                     note="It was held out from the start; no decision touches it."),
        outcomes=outcomes, groups=groups, group_sizes=_sizes(groups, m),
        network="reference" if form == FULL else "ridge head on recorded features", settings={"epochs": 4},
        seeds=tuple(range(k)), decisions={"changed": changed, "digest": digest},
    )  # fmt: skip


def _outcome(
    name: str, title: str, of: str, share: np.ndarray, k: int, difficulty: np.ndarray, labels: np.ndarray, form: str,
    noise: float, changed: int, rng: np.random.Generator,
) -> Outcome:  # fmt: skip
    shift = rng.normal(0.0, noise, (k, 1)) if form == FULL or of else 0.0
    room = share[None, :] + shift - difficulty[None, :]
    right = room > 0
    curve = np.linspace(0.3, right.mean(axis=1), 4, axis=1)
    curves = {"accuracy": curve, "log_loss": 1.2 - curve, "train_loss": 1.0 - 0.8 * curve} if form == FULL else {}
    removed = changed if of or name.startswith("remove") else changed // 2
    return Outcome(
        name=name, title=title, control_of=of, predicted=np.where(right, labels, (labels + 1) % len(CLASSES)),
        given_prob=1 / (1 + np.exp(-8 * room)), curves=curves, seconds=12.5 * k,
        counts={"kept": TRAINING_ROWS - removed, "removed": removed, "relabelled": changed - removed, "weighted": 0},
        changed_per={
            "class": {"cat": changed - changed // 3, "dog": changed // 3, "fox": 0},
            "group": {"day": changed, "night": 0},
            "cluster": {f"{each} {part}": changed // 6 for each in CLASSES for part in (1, 2)},
        },
    )  # fmt: skip


def _sizes(groups: Mapping[str, tuple[str, ...]], m: int) -> dict[str, dict[str, int]]:
    return {
        name: {value: round(TRAINING_ROWS * values.count(value) / m) for value in sorted(set(values))}
        for name, values in groups.items()
    }


def fake_quick(**changes: object) -> Verification:
    """`fake_verification` in the quick form, with 20 draws of each control."""
    return fake_verification(**{"k": 20, "form": QUICK, **changes})  # type: ignore[arg-type]
