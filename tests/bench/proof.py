"""Does the proof prove? Verdicts where the truth is known: oracle decisions, random removal, the best, a rare class.

    python tests/bench/proof.py DATA --keep FOLDER [--parts oracle quick-random full-random best rare] [--seeds 3]

DATA is as for `label_errors.py` and holds cifar10_test.parquet too. All 10,000 clean test images are the test set.

- oracle: labels `worse`, 10,000 rows. Somebody who knows the truth goes through the first 500, 1,000 and 2,000 of a
  ranking and relabels (or leaves out) what is wrong; beside it those rows removed unseen. Rankings are made without the
  test images. Quick form for the default ranking, OGA L2, the forest and cleanlab's self-confidence (5-fold head on the
  same features); full form for the default ranking, relabelled; then whether both forms order the arms alike.
- quick-random: 200 times 5 % of clean data removed at random; *helps* should come up in at most 10.
- full-random: 10 such removals retrained, 2,000 rows, 2,000 test images: no clear effect.
- best: the 30 % that are right and least suspicious, removed from `worse`: hurts.
- rare: clean data in which one class has 3 tenths of the others' rows, and all of it is removed: hurts.

Everything is kept in FOLDER, so that a second call goes on: projects with their trainings, and `verdicts.csv`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from label_errors import NAMES, cleanlab_rows
from scipy.stats import spearmanr

from core.data.manifest import Manifest
from core.data.sources import SourceOptions
from core.findings import Findings
from core.pipeline import sift
from core.progress import Progress
from core.project import Project, ProjectConfig
from core.retrain.cifar10n import chosen
from core.retrain.run import VerifyOptions, verify
from core.settings import SiftSettings
from core.terminal import Narrator, duration, table
from core.verify.compare import HELPS, UNCLEAR, compare, verdict
from core.verify.record import FULL, QUICK, Verification, stored

BUDGETS = (0.05, 0.1, 0.2)  # 500, 1,000 and 2,000 of 10,000
RANDOM, BEST, RARE = 0.05, 0.3, 0.3
RARE_CLASS = 9
AT_ONCE = 10  # random removals of one quick verification
RANKINGS = ("suspicion", "oga_l2", "oga_forest", "cleanlab")
COLUMNS = {
    "part": "part", "form": "form", "arm": "arm", "changed": "changed", "accuracy": "accuracy",
    "given": "against given", "random": "against random", "word": "word", "over": "random against given",
}  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """Where the data lies, where everything is kept, and how long trainings are."""

    data: Path
    keep: Path
    rows: int
    small: int
    tested: int
    seeds: int
    settings: SiftSettings
    progress: Progress

    @property
    def labels(self) -> dict[str, np.ndarray]:
        with np.load(self.data / "cifar10n_labels.npz") as stored:
            return {name: stored[name].astype(np.int64) for name in stored}

    def project(
        self, name: str, kind: str, rows: int, *, tested: int = 0, rare: bool = False
    ) -> tuple[Project, Findings]:
        """A scored project of some rows with one kind of labels; with test images, or with held-out rows instead."""
        folder = self.keep / name
        if not folder.exists():
            spec = self._table(name, kind, rows, tested, rare)
            manifest = Manifest.read(spec, options=SourceOptions(), classes=NAMES, progress=self.progress)
            Project.create(folder, manifest, ProjectConfig(spec, settings=self.settings))
        project = Project.open(folder)
        return project, sift(project, progress=self.progress)

    def _table(self, name: str, kind: str, rows: int, tested: int, rare: bool) -> str:
        labels, path = self.labels, self.keep / f"{name}.parquet"
        train, held_out = chosen(labels["clean"], rows)
        if rare:
            few = np.flatnonzero(labels["clean"][train] == RARE_CLASS)
            train = np.delete(train, few[round(RARE * len(few)) :])
        some = train if tested else np.sort(np.concatenate([train, held_out]))
        images = pq.read_table(self.data / "cifar10_train.parquet", columns=["image"])["image"].take(some)
        other = pq.read_table(self.data / "cifar10_test.parquet", columns=["image", "label"]).slice(0, tested)
        pq.write_table(pa.table({
            "sample_id": [f"{row:08d}" for row in some] + [f"test-{row:08d}" for row in range(tested)],
            "label": [NAMES[c] for c in [*labels[kind][some], *other["label"].to_pylist()]],
            "split": [*np.where(np.isin(some, train), "train", "val"), *["test"] * tested],
            "image": pa.chunked_array([*images.chunks, *other["image"].chunks]),
        }), path)  # fmt: skip
        return f"table:{path}"

    def truth(self, ids: Sequence[str]) -> np.ndarray:
        """True class codes of training rows."""
        return self.labels["clean"][[int(sample) for sample in ids]]

    def verdicts(self, part: str, project: Project, form: str, arms: Sequence[str]) -> Verification:
        """Verify, note every arm's verdict, and print them."""
        begin = time.perf_counter()
        found = verify(project, VerifyOptions(form, tuple(arms), self.seeds), self.progress)
        took = time.perf_counter() - begin
        rows = [{"part": part, "form": form, **row, "seconds": round(took, 1)} for row in rows_of(found)]
        self.note(rows)
        print(f"\n{table(rows, COLUMNS)}\ntook {duration(took)}", flush=True)
        return found

    def note(self, rows: Sequence[dict[str, object]]) -> None:
        path = self.keep / "verdicts.csv"
        before = pd.read_csv(path, dtype=str, keep_default_na=False) if path.exists() else pd.DataFrame()
        frame = pd.concat([before, pd.DataFrame(rows).astype(str)])
        frame.drop_duplicates(["part", "form", "arm"], keep="last").to_csv(path, index=False)


def rows_of(v: Verification) -> Iterator[dict[str, object]]:
    """One row per arm: differences in points with their intervals, the word, and what its control did."""
    for name in v.arms:
        said, control = verdict(v, name), v.control(name)
        outcome = v.outcome(name)
        yield {
            "arm": name, "changed": outcome.changes, "accuracy": f"{accuracy(v, name):.2f}",
            "given": points(v, name, "given"), "random": points(v, name, control.name) if control else "",
            "over": points(v, control.name, "given") if control else "", "word": said.word,
            "against_random": said.against_random, "pays": "; ".join(value for _, value, _ in said.pays),
        }  # fmt: skip


def accuracy(v: Verification, name: str) -> float:
    return 100 * float((v.outcome(name).predicted == v.test.labels).mean())


def points(v: Verification, arm: str, against: str) -> str:
    found = compare(v, arm, against).accuracy
    return f"{100 * found.value:+.2f} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"


def written(bench: Bench, name: str, rows: Sequence[dict[str, str]]) -> str:
    """A table of decisions as an arm."""
    path = bench.keep / "tables" / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=["sample_id", "action", "label"]).to_csv(path, index=False)
    return f"file:{path}"


def removing(bench: Bench, name: str, ids: Sequence[str]) -> str:
    return written(bench, name, [{"sample_id": sample, "action": "exclude", "label": ""} for sample in ids])


def ranked(bench: Bench) -> dict[str, list[str]]:
    """Training ids, most suspicious first, by each ranking; made from training and held-out rows only."""
    project, findings = bench.project("ranking", "worse", bench.rows)
    samples, manifest = findings.samples, project.manifest()
    train = samples[samples["split"] == "train"]
    features = np.load(next((project.folder / "stages").glob("features-*")) / "features.npy")[manifest.train]
    heads = dict(cleanlab_rows(features, manifest.labels[manifest.train]))
    values = {name: train[name if name == "suspicion" else f"score_{name}"] for name in RANKINGS[:3]}
    confidence = next(score for name, score in heads.items() if "self_confidence" in name)
    values["cleanlab"] = pd.Series(confidence, index=manifest.ids[manifest.train])
    return {
        name: [str(i) for i in each.sort_index().sort_values(ascending=False, kind="stable").index]
        for name, each in values.items()
    }


def tables(bench: Bench, name: str, order: Sequence[str]) -> dict[str, list[str]]:
    """For each budget: what is wrong among the first rows relabelled, left out, and all of them removed unseen."""
    given, found = bench.labels["worse"], {"relabel": [], "exclude": [], "unseen": []}
    for budget in BUDGETS:
        first = order[: round(budget * bench.rows)]
        truth = bench.truth(first)
        wrong = [(s, NAMES[t]) for s, t in zip(first, truth, strict=True) if given[int(s)] != t]
        print(f"{name}: {len(wrong):,} of the first {len(first):,} labels are wrong", flush=True)
        end = f"{name}-{len(first)}"
        relabelled = [{"sample_id": s, "action": "relabel", "label": label} for s, label in wrong]
        found["relabel"].append(written(bench, f"oracle-relabel-{end}", relabelled))
        found["exclude"].append(removing(bench, f"oracle-exclude-{end}", [s for s, _ in wrong]))
        found["unseen"].append(removing(bench, f"remove-unseen-{end}", first))
    return found


def oracle(bench: Bench) -> None:
    orders = ranked(bench)
    project, _ = bench.project("worse", "worse", bench.rows, tested=bench.tested)
    arms = {name: tables(bench, name, order) for name, order in orders.items()}
    found = {
        name: bench.verdicts("oracle", project, QUICK, [arm for kind in kinds.values() for arm in kind])
        for name, kinds in arms.items()
    }
    full = bench.verdicts("oracle", project, FULL, arms["suspicion"]["relabel"])
    names = [each.name for each in full.outcomes]
    gains = [[accuracy(v, name) - accuracy(v, "given") for name in names] for v in (found["suspicion"], full)]
    print(pd.DataFrame({"arm": names, "quick": gains[0], "full": gains[1]}).round(2).to_string(index=False))
    if len(names) > 2:
        print(f"rank correlation of both forms over {len(names)} arms: {spearmanr(*gains).statistic:.2f}")


def at_random(bench: Bench, project: Project, name: str, run: int) -> str:
    manifest = project.manifest()
    ids = manifest.ids[manifest.train]
    drawn = np.random.default_rng([7, run]).choice(ids, round(RANDOM * len(ids)), replace=False)
    return removing(bench, f"{name}-{run:03d}", sorted(drawn))


def quick_random(bench: Bench, runs: int) -> None:
    project, _ = bench.project("clean", "clean", bench.rows, tested=bench.tested)
    words = read(bench, "quick-random", QUICK)
    for first in range(0, runs, AT_ONCE):
        told = [at_random(bench, project, "random", run) for run in range(first, min(first + AT_ONCE, runs))]
        if {Path(arm.removeprefix("file:")).name for arm in told} <= {a.removeprefix("file:") for a in words}:
            continue
        bench.verdicts("quick-random", project, QUICK, told)
        shutil.rmtree(stored(project.verify)[0])  # 20 draws of each arm: a few MB each
    count(read(bench, "quick-random", QUICK), f"{runs} quick runs on random removal from clean data")


def full_random(bench: Bench, runs: int) -> None:
    project, _ = bench.project("clean-small", "clean", bench.small, tested=min(bench.tested, bench.small))
    told = [at_random(bench, project, "random-small", run) for run in range(runs)]
    bench.verdicts("full-random", project, FULL, told)
    count(read(bench, "full-random", FULL), f"{runs} full runs on random removal from clean data")


def read(bench: Bench, part: str, form: str) -> dict[str, str]:
    """The words so far, by arm."""
    path = bench.keep / "verdicts.csv"
    if not path.exists():
        return {}
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    some = frame[(frame["part"] == part) & (frame["form"] == form)]
    return dict(zip(some["arm"], some["word"], strict=True))


def count(words: dict[str, str], what: str) -> None:
    found = pd.Series(list(words.values())).value_counts().to_dict()
    print(f"{what}: {found.get(HELPS, 0)} {HELPS}, {found.get(UNCLEAR, 0)} {UNCLEAR}; {found}", flush=True)


def best(bench: Bench) -> None:
    order = ranked(bench)["suspicion"][::-1]
    project, _ = bench.project("worse", "worse", bench.rows, tested=bench.tested)
    given, truth = bench.labels["worse"][[int(s) for s in order]], bench.truth(order)
    right = [sample for sample, fine in zip(order, given == truth, strict=True) if fine]
    arm = removing(bench, "best", right[: round(BEST * bench.rows)])
    for form in (QUICK, FULL):
        bench.verdicts("best", project, form, [arm])


def rare(bench: Bench) -> None:
    """The control removes the same class, so it is the same training; against the data as given it hurts."""
    project, findings = bench.project("rare", "clean", bench.rows, tested=bench.tested, rare=True)
    samples = findings.samples
    gone = samples[(samples["split"] == "train") & (samples["given_label"] == NAMES[RARE_CLASS])].index
    arm = removing(bench, "rare-class", list(gone))
    for form in (QUICK, FULL):
        bench.verdicts("rare", project, form, [arm])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--keep", type=Path, required=True)
    parts = ["oracle", "quick-random", "full-random", "best", "rare"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--small", type=int, default=2_000, help="rows of the full form on random removal")
    parser.add_argument("--tested", type=int, default=10_000, help="test images")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--trees", type=int, default=1000)
    parser.add_argument("--quick-runs", type=int, default=200)
    parser.add_argument("--full-runs", type=int, default=10)
    told = parser.parse_args()
    told.keep.mkdir(parents=True, exist_ok=True)
    narrator = Narrator.on(sys.stderr)
    settings = SiftSettings(maps=False, epochs=told.epochs, trees=told.trees)
    bench = Bench(
        told.data, told.keep, told.rows, told.small, told.tested, told.seeds, settings,
        Progress(narrator, note=narrator.note),
    )  # fmt: skip
    for part in told.parts:
        print(f"\n== {part}", flush=True)
        if part in ("quick-random", "full-random"):
            random = quick_random if part == "quick-random" else full_random
            random(bench, told.quick_runs if part == "quick-random" else told.full_runs)
        else:
            {"oracle": oracle, "best": best, "rare": rare}[part](bench)


if __name__ == "__main__":
    main()
