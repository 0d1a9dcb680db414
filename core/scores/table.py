"""From the record, the factors and the neighbours to one row of evidence per image.

`evidence_table` computes every score of the table, chooses the rule of `suspicion`, works out which label each image
should carry, and writes the sentence.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from core.axes import Array, Bool, Float, Integer
from core.data.manifest import Manifest
from core.findings import Findings
from core.gradients.last_layer import LastLayerGradients
from core.gradients.rows import by_blocks
from core.progress import Progress
from core.reasons import HEAD, WHILE_LEARNING, reasons
from core.scores import SCORES, Evidence, available, difficulty, dynamics, percentile, there
from core.scores.forest import GradientForest, forest_stability
from core.scores.out_of_sample import ridge_head
from core.scores.suspicion import Rule, accuracy, choose_rule
from core.scores.witness import ORIGINS, Witness
from core.settings import SiftSettings

FOREST_SEEDS = 3
HELD = 2**26  # probabilities up to which they are an array, 256 MB; beyond it rows are worked out when asked for
STABILITY_SHARE = 0.05


def evidence_table(
    witness: Witness,
    manifest: Manifest,
    neighbours: Integer[Array, "n k"] | None,
    settings: SiftSettings,
    progress: Progress,
) -> Findings:
    """Return findings without neighbours and maps, which have stages of their own.

    Args:
        witness: what was seen of the samples; a score whose need is not there has no column.
        manifest: the rows, for ids, files and splits.
        neighbours: positions of the nearest training images in the first features; None without features.
        settings: trees and seed.
        progress: who is told.

    Raises:
        ModelError: nothing was seen from which labels could be judged.
    """
    train, names = witness.train, np.asarray(witness.classes, dtype=object)
    progress.report("scores", 0, len(SCORES), "scores")
    evidence, stability = _evidence(witness, neighbours, settings, progress)
    scores = available(evidence)
    raw = {name: score.compute(evidence) for name, score in scores.items()}
    shares = {name: percentile(score.sign * raw[name], train) for name, score in scores.items()}
    rule = choose_rule(witness, evidence)
    told, own = _labels(witness, rule, names)
    rows = manifest.rows
    table = pd.DataFrame({"sample_id": manifest.ids, "filepath": rows["filepath"], "split": rows["split"]})
    table = table.assign(**told, suspicion=percentile(-rule.margins, train))
    table["reason"] = reasons(_spoken(table, own, witness, evidence, rule, shares.get("oga_l2"))).to_numpy()
    columns = {f"score_{name}": share for name, share in shares.items()}
    columns |= {f"raw_{name}": value for name, value in raw.items()}
    table = pd.concat([table, pd.DataFrame(columns)], axis=1).set_index("sample_id")
    progress.report("scores", len(SCORES), len(SCORES), "scores")
    curves = np.zeros((0, len(train)), np.float32) if evidence.history is None else evidence.history.given_prob
    run = _run(witness, evidence, rule) | ({"forest": {"trees": settings.trees, **stability}} if stability else {})
    suggestion = rule.probabilities.astype(np.float32)
    if suggestion.size <= HELD:
        suggestion = np.asarray(suggestion)
    return Findings(table, witness.classes, run, suggestion, curves)


def most_suspicious(witness: Witness, share: float) -> Bool[Array, " n"]:
    """Return the training rows that stand first by `suspicion`, which needs no forest and no neighbours.

    Args:
        witness: what was seen of the samples.
        share: of the training rows, 0 to 1.
    """
    margins, rows = choose_rule(witness, _seen(witness)).margins, np.flatnonzero(witness.train)
    first = rows[np.argsort(margins[rows], kind="stable")[: round(share * len(rows))]]
    return np.isin(np.arange(len(witness.train)), first)


def _evidence(
    witness: Witness, neighbours: Array | None, settings: SiftSettings, progress: Progress
) -> tuple[Evidence, dict[str, Any]]:
    """Return what scores are computed from, and how stable the forest is."""
    forest: Array | None = None
    stability: dict[str, Any] = {}
    if witness.gradients is not None:
        forest, stability = _forest(witness.gradients, witness.train, settings, progress)
    seen = _seen(witness)
    return replace(seen, forest=forest, neighbours=neighbours if seen.heads else None), stability


def _seen(witness: Witness) -> Evidence:
    """Return what scores are computed from, but for forest and neighbours."""
    train, history = witness.train, witness.history
    origins = [origin for origin in ORIGINS if origin in witness.features]
    heads = {o: ridge_head(witness.features[o], witness.labels, len(witness.classes), train) for o in origins}
    return Evidence(
        witness.labels, witness.logits, witness.gradients, None, heads, None, history,
        None if history is None else dynamics.window(history, train, witness.judging),
        None if history is None else dynamics.epoch_weights(history, train, witness.judging),
        witness.extra,
    )  # fmt: skip


def _forest(
    gradients: LastLayerGradients, train: Bool[Array, " n"], settings: SiftSettings, progress: Progress
) -> tuple[Array, dict[str, Any]]:
    """Return forest scores (grown on training rows, read for all) and how far other seeds agree with them."""
    grown_on, found = np.flatnonzero(train), []
    for offset in range(FOREST_SEEDS):
        forest = GradientForest(settings.trees, seed=settings.seed + offset)
        found.append(forest.fit(gradients, rows=grown_on).score(gradients))
        progress.report("forest", offset + 1, FOREST_SEEDS, "forests")
    stable = forest_stability([scores[train] for scores in found], STABILITY_SHARE)
    measured = {"jaccard": stable.jaccard, "spearman": stable.spearman}
    return found[0], {"seeds": FOREST_SEEDS, "top_share": STABILITY_SHARE, **measured}


def _labels(witness: Witness, rule: Rule, names: Array) -> tuple[dict[str, Array], Float[Array, " n"]]:
    """Return given, predicted and suggested labels with the probabilities of the latter two, and the suggester's
    probability of the given label.

    The suggestion comes from the left-out heads, or from the recorded training where none is heard. Without a finished
    network the prediction is the suggestion.
    """
    labels = witness.labels
    suggested = by_blocks(_best, rule.probabilities, labels)
    predicted = suggested
    if witness.logits is not None:
        predicted = by_blocks(lambda z, y: _best(difficulty.probabilities(z), y), witness.logits, labels)
    return {
        "given_label": names[labels],
        "predicted_label": names[predicted[:, 0].astype(np.int64)],
        "predicted_prob": predicted[:, 1],
        "suggested_label": names[suggested[:, 0].astype(np.int64)],
        "suggested_prob": suggested[:, 1],
    }, suggested[:, 2]


def _best(probabilities: Float[Array, "n c"], labels: Integer[Array, " n"]) -> Float[Array, "n _"]:
    """Likeliest class, its probability, and the given label's."""
    own = difficulty.self_confidence(probabilities, labels)
    return np.column_stack((probabilities.argmax(1), probabilities.max(1), own))


def _spoken(
    table: pd.DataFrame,
    own: Float[Array, " n"],
    witness: Witness,
    evidence: Evidence,
    rule: Rule,
    gradient: Float[Array, " n"] | None,
) -> pd.DataFrame:
    """Return the evidence that the sentence speaks of; what nobody saw has no column."""
    spoken = table[["given_label", "suggested_label", "suggested_prob"]]
    spoken = spoken.assign(given_prob=own, witness=WHILE_LEARNING if rule.memorised else HEAD)
    if witness.logits is not None and witness.in_sample_logits:
        fitted = by_blocks(lambda z, y: z.argmax(1) == y, witness.logits, witness.labels)
        spoken = spoken.assign(
            predicted_label=table["predicted_label"], predicted_prob=table["predicted_prob"], fitted=fitted
        )
    if gradient is not None:
        spoken = spoken.assign(gradient_percentile=gradient)
    if evidence.history is not None:
        learned = np.where(dynamics.seen(evidence.history), evidence.history.correct.mean(0), np.nan)
        spoken = spoken.assign(learned_share=learned)
    if evidence.neighbours is None:
        return spoken
    return spoken.assign(**_near(table["suggested_label"], evidence, np.asarray(witness.classes, dtype=object)))


def _near(suggested: pd.Series[str], evidence: Evidence, names: Array) -> dict[str, Any]:
    """Return what the nearest training images are labelled."""
    near = evidence.labels[there(evidence.neighbours)]
    preferred = pd.Categorical(suggested, categories=list(names)).codes
    return {
        "neighbours": near.shape[1],
        "neighbours_suggested": (near == preferred[:, None]).sum(1),
        "neighbours_given": (near == evidence.labels[:, None]).sum(1),
        "neighbours_top_label": names[by_blocks(lambda some: _most_frequent(some, len(names)), near)],
    }


def _most_frequent(labels: Integer[Array, "n k"], classes: int) -> Integer[Array, " n"]:
    """The label that most of each row carry; of several the first."""
    rows = np.arange(len(labels))[:, None]
    counts = np.bincount((rows * classes + labels).ravel(), minlength=len(labels) * classes)
    return np.asarray(counts.reshape(-1, classes).argmax(1))


def _run(witness: Witness, evidence: Evidence, rule: Rule) -> dict[str, Any]:
    """Return what is kept of how the evidence came about."""
    heads = {
        origin: {"strength": head.strength, "temperature": head.temperature, "left_out_accuracy": head.accuracy}
        for origin, head in evidence.heads.items()
    }
    run: dict[str, Any] = {"suspicion": rule.describe(), "notes": list(witness.notes), "heads": heads}
    if heads:
        run["head"] = next(iter(heads.values()))
    if evidence.window is not None:
        run["window"] = {"epochs": evidence.window.epochs, "why": evidence.window.why}
    if witness.logits is not None and witness.in_sample_logits:
        right = by_blocks(lambda z, y: z.argmax(1) == y, witness.logits, witness.labels)
        run |= {"fitted": accuracy(right, witness.train), "held_out_accuracy": accuracy(right, witness.held_out)}
    return run
