"""From the record, the factors and the neighbours to one row of evidence per image.

`evidence_table` computes every score of the table, chooses the rule of `suspicion`, works out which label each image
should carry, and writes the sentence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from core.axes import Array, Bool, Float, Integer
from core.data.manifest import Manifest
from core.findings import Findings
from core.gradients.last_layer import LastLayerGradients
from core.models.recorder import History
from core.progress import Progress
from core.reasons import HEAD, WHILE_LEARNING, reasons
from core.scores import SCORES, Evidence, difficulty, dynamics, percentile
from core.scores.forest import GradientForest, forest_stability
from core.scores.out_of_sample import ridge_head
from core.scores.suspicion import Rule, accuracy, choose_rule, combine
from core.settings import SiftSettings

FOREST_SEEDS = 3
STABILITY_SHARE = 0.05


def evidence_table(
    manifest: Manifest,
    history: History,
    logits: Float[Array, "n c"],
    features: Float[Array, "n d"],
    gradients: LastLayerGradients,
    neighbours: Integer[Array, "n k"],
    settings: SiftSettings,
    progress: Progress,
) -> Findings:
    """Return findings without neighbours and maps, which have stages of their own."""
    labels, train, classes = manifest.labels, manifest.train, manifest.classes
    progress.report("scores", 0, len(SCORES), "scores")
    head = ridge_head(features, labels, len(classes), train)
    forest, stability = _forest(gradients, train, settings, progress)
    window = dynamics.window(history, train)
    evidence = Evidence(
        labels, logits, gradients, forest, head, neighbours, history, window, dynamics.epoch_weights(history, train)
    )
    right = logits.argmax(1) == labels
    rule = choose_rule(accuracy(right, train) or 0.0, accuracy(right, ~train), int((~train).sum()) or 1)
    raw = {name: score.compute(evidence) for name, score in SCORES.items()}
    shares = {name: percentile(score.sign * raw[name], train) for name, score in SCORES.items()}
    table = pd.DataFrame(
        {"sample_id": manifest.ids, "filepath": manifest.rows["filepath"], "split": manifest.rows["split"]}
    )
    table = table.assign(**_labels(evidence, rule, np.asarray(classes, dtype=object)))
    table["suspicion"] = percentile(combine(shares, rule), train)
    table["reason"] = reasons(
        _spoken(table, evidence, rule, shares["oga_l2"], np.asarray(classes, dtype=object))
    ).to_numpy()
    columns = {f"score_{name}": share for name, share in shares.items()} | {
        f"raw_{n}": value for n, value in raw.items()
    }
    table = pd.concat([table, pd.DataFrame(columns)], axis=1).set_index("sample_id")
    progress.report("scores", len(SCORES), len(SCORES), "scores")
    run = {
        "suspicion": {"scores": list(rule.scores), "memorised": rule.memorised, "why": rule.why},
        "window": {"epochs": window.epochs, "why": window.why},
        "head": {"strength": head.strength, "temperature": head.temperature, "left_out_accuracy": head.accuracy},
        "fitted": accuracy(right, train), "held_out_accuracy": accuracy(right, ~train),
        "forest": {"trees": settings.trees, "seeds": FOREST_SEEDS, **stability},
    }  # fmt: skip
    suggestion = _suggestion(evidence, rule, len(classes)).astype(np.float32)
    return Findings(table, classes, run, suggestion, history.given_prob)


def _forest(
    gradients: LastLayerGradients, train: Bool[Array, " n"], settings: SiftSettings, progress: Progress
) -> tuple[Array, dict[str, Any]]:
    """Return forest scores (grown on training rows, read for all) and how far other seeds agree with them."""
    grown_on, found = gradients.take(np.flatnonzero(train)), []
    for offset in range(FOREST_SEEDS):
        found.append(GradientForest(settings.trees, seed=settings.seed + offset).fit(grown_on).score(gradients))
        progress.report("forest", offset + 1, FOREST_SEEDS, "forests")
    stable = forest_stability([scores[train] for scores in found], STABILITY_SHARE)
    return found[0], {"top_share": STABILITY_SHARE, "jaccard": stable.jaccard, "spearman": stable.spearman}


def _labels(evidence: Evidence, rule: Rule, names: Array) -> dict[str, Array]:
    """Return given, predicted and suggested labels with the probabilities of the latter two.

    The suggestion comes from the left-out head, and from the recorded training where the head is left out.
    """
    predicted, suggested = evidence.probabilities, _suggestion(evidence, rule, len(names))
    return {
        "given_label": names[evidence.labels],
        "predicted_label": names[predicted.argmax(1)],
        "predicted_prob": predicted.max(1),
        "suggested_label": names[suggested.argmax(1)],
        "suggested_prob": suggested.max(1),
    }


def _suggestion(evidence: Evidence, rule: Rule, classes: int) -> Float[Array, "n c"]:
    if rule.memorised:
        return dynamics.tracked_probabilities(evidence.early, evidence.labels, classes)
    return evidence.head.probabilities


def _spoken(
    table: pd.DataFrame, evidence: Evidence, rule: Rule, gradient: Float[Array, " n"], names: Array
) -> pd.DataFrame:
    """Return the evidence that the sentence speaks of."""
    near, rows = evidence.labels[evidence.neighbours], np.arange(len(evidence.labels))
    counts = np.stack([(near == label).sum(1) for label in range(len(names))], axis=1)
    suggested = pd.Categorical(table["suggested_label"], categories=list(names)).codes
    own = difficulty.self_confidence(_suggestion(evidence, rule, len(names)), evidence.labels)
    spoken = table[["given_label", "predicted_label", "predicted_prob", "suggested_label", "suggested_prob"]]
    return spoken.assign(
        given_prob=own,
        witness=WHILE_LEARNING if rule.memorised else HEAD,
        neighbours=near.shape[1],
        neighbours_suggested=counts[rows, suggested],
        neighbours_given=counts[rows, evidence.labels],
        neighbours_top_label=names[counts.argmax(1)],
        gradient_percentile=gradient,
        fitted=evidence.logits.argmax(1) == evidence.labels,
        learned_share=evidence.history.correct.mean(0),
    )
