"""What the commands `verify` and `reproduce` answer: did it help?

As in `core.commands`, plain values in, an `Answer` out, nothing printed. What is compared and how is in `core.retrain`,
what is said of it in `core.verify`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.commands import Answer
from core.errors import InputError
from core.jobs import recorded
from core.progress import Progress
from core.project import Project
from core.retrain.run import Planned, VerifyOptions, planned, to_do
from core.retrain.run import verify as compare_arms
from core.terminal import duration, table
from core.verify.compare import RULE, Comparison, Verdict, compare, judge, unknown_chance
from core.verify.intervals import Difference
from core.verify.losses import warnings
from core.verify.noise import said as labels_said
from core.verify.record import QUICK, Outcome, Verification, stored

COLUMNS = {
    "title": "arm", "kept": "images", "changed": "changed", "accuracy": "accuracy, %",
    "against_given": "points against as given", "against_random": "against random", "word": "so it",
}  # fmt: skip
RETRAIN = "retrain"
MOST_WARNINGS = 4  # of an arm, that a person is told


def verify(project: Project, options: VerifyOptions, progress: Progress, *, dry_run: bool = False) -> Answer:
    """Compare the arms and keep the result in the project; with `dry_run` say what that would take."""
    if dry_run:
        return _cost(project, planned(project, options, progress))
    with recorded(project, "verify", progress) as run:
        if (waiting := to_do(project, options)) is not None:
            run.tell(**waiting.device)
            run.plan(dict(waiting.keys), of=RETRAIN, done=waiting.there)
            run.note(f"{len(waiting.keys):,} trainings, {len(waiting.there):,} of them there already")
        found = compare_arms(project, options, run)
    return _found(found, stored(project.verify)[0])


def reproduce(
    name: str, data: Path, *, labels: Sequence[str], rows: int, seeds: int, network: str, out: Path | None,
    keep: Path | None, progress: Progress,
) -> Answer:  # fmt: skip
    """Run a paper's experiment and put what was measured beside what was published.

    `out` is a CSV file for the table; `keep` a folder in which trainings stay, so that a stopped call goes on.
    """
    from core.project import Stages
    from core.retrain.reproduce import COLUMNS as MEASURED
    from core.retrain.reproduce import reproduce as run

    if out is not None and not out.absolute().parent.is_dir():
        raise InputError(f"The folder {out.absolute().parent} does not exist. Make it, or write elsewhere.")
    stages = Stages(keep) if keep else None
    found = run(
        name, data, labels=tuple(labels), rows=rows, seeds=seeds, network=network, stages=stages, progress=progress
    )
    if out is not None:
        found.write(out)
    said = [table(found.rows(), dict(MEASURED)), "", *found.sentences(), "", f"took {duration(found.seconds)}"]
    return Answer(found.as_data(), "\n".join(said))


def _cost(project: Project, found: Planned) -> Answer:
    what = "heads" if found.form == QUICK else "trainings"
    there = f", {found.there:,} of them there already" if found.there else ""
    text = (
        f"arms: {'; '.join(found.arms)}\ncompared on: {found.test}\n"
        f"{found.units:,} {what}{there}; about {duration(found.seconds)}"
    )
    return Answer({"project": str(project.folder), **found._asdict(), "arms": list(found.arms)}, text)


def _found(v: Verification, folder: Path) -> Answer:
    rows, data, said = [_row(v.outcomes[0], v)], [], []
    for name in v.arms:
        outcome, control = v.outcome(name), v.control(name)
        given, random = compare(v, name), compare(v, name, control.name) if control else None
        word = judge(given, random, unknown_chance(v, name))
        pay = warnings(v, name, given)
        rows.append({**_row(outcome, v), "against_given": _points(given.accuracy),
                     "against_random": _points(random.accuracy) if random else "", "word": word.word})  # fmt: skip
        rows += [{**_row(control, v), "against_given": _points(compare(v, control.name).accuracy)}] if control else []
        said += [word.sentence, *pay[:MOST_WARNINGS]]
        said += (
            [f"… and {more:,} more such warnings; --json lists them"] if (more := len(pay) - MOST_WARNINGS) > 0 else []
        )
        data.append(_data(outcome, v, given, random, word, pay))
    test = v.test
    doubted = labels_said(test.known_noise, test.noise)
    tested = f"compared on {len(test.ids):,} rows: {test.name}. {test.note} {doubted}".rstrip()
    text = "\n".join([table(rows, COLUMNS), "", *said, tested, *v.notes, f"rule: {RULE}", f"kept in {folder}"])
    facts = {
        "project": v.project, "folder": str(folder), "form": v.form, "network": v.network, "seeds": list(v.seeds),
        "test": {"name": test.name, "rows": len(test.ids), "noise": test.noise, "known_noise": test.known_noise,
                 "note": test.note},
        "given": {"accuracy": _accuracy(v.outcomes[0], v)}, "arms": data, "rule": RULE, "notes": list(v.notes),
        "decisions": dict(v.decisions), "seconds": round(sum(each.seconds for each in v.outcomes), 2),
    }  # fmt: skip
    return Answer(facts, text)


def _row(outcome: Outcome, v: Verification) -> dict[str, object]:
    counts = outcome.counts
    return {
        "title": f"  {outcome.title}" if outcome.control_of else outcome.title, "kept": f"{counts['kept']:,}",
        "changed": f"{outcome.changes or counts['weighted']:,}", "accuracy": f"{100 * _accuracy(outcome, v):.1f}",
    }  # fmt: skip


def _data(
    outcome: Outcome, v: Verification, given: Comparison, random: Comparison | None, word: Verdict, pay: Sequence[str]
) -> dict[str, Any]:
    return {
        "name": outcome.name, "title": outcome.title, "counts": dict(outcome.counts), "word": word.word,
        "against_random": word.against_random, "sentence": word.sentence, "warnings": list(pay),
        "accuracy": _accuracy(outcome, v), "given": _figures(given), "random": _figures(random) if random else None,
        "seconds": outcome.seconds,
    }  # fmt: skip


def _figures(found: Comparison) -> dict[str, Any]:
    """Differences as plain values: shares, log-loss in nats."""

    def plain(each: Difference) -> Mapping[str, float]:
        return {"value": each.value, "low": each.low, "high": each.high}

    per = {grouping: {value: plain(each) for value, each in values.items()} for grouping, values in found.per.items()}
    return {
        "accuracy": plain(found.accuracy), "log_loss": plain(found.log_loss), "worst_class": plain(found.worst_class),
        "worst": {grouping: plain(each) for grouping, each in found.worst.items()}, "per": per,
    }  # fmt: skip


def _accuracy(outcome: Outcome, v: Verification) -> float:
    return float(np.mean(outcome.predicted == v.test.labels))


def _points(each: Difference) -> str:
    return f"{100 * each.value:+.1f} [{100 * each.low:.1f}, {100 * each.high:.1f}]"
