"""kill -9 at ten seeded moments, then the same command: the same bits as an undisturbed run, and no half file.

    python tests/bench/kill.py [--seed 0]

Works on the built-in digits, 6 epochs. Each trial starts from an untouched project, kills one command at its moment
(it waits for the file named in MOMENTS to appear, then for a random part of a second), runs the same command again to
its end, and compares digests of everything but what holds times: run.json, the log and tables with `decided_at`.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from core.project import Project

SIFT = ["sift", "{project}", "--epochs", "6", "--trees", "200"]
DECIDE = ["decide", "{project}", "--from", "{root}/decisions.csv", "--reviewer", "ann"]
EXPORT = ["export", "{project}", "--to", "{root}/out", "--format", "csv", "parquet", "jsonl"]
MOMENTS = [  # what is killed, the file whose appearance starts the clock, the longest wait after it in seconds
    ("training", SIFT, "stages/.features-*.part/epoch-*.npz", 1.0),
    ("training", SIFT, "stages/.features-*.part/epoch-*.npz", 2.0),
    ("writing of weights", SIFT, "stages/.features-*.part/.checkpoint.safetensors.part", 0.002),
    ("writing of weights", SIFT, "stages/.features-*.part/.weights-*.part", 0.002),
    ("scoring", SIFT, "stages/.scores-*.part", 0.5),
    ("scoring", SIFT, "stages/.neighbours-*.part", 0.3),
    ("deciding", DECIDE, "review.sqlite", 0.01),
    ("deciding", DECIDE, "review.sqlite-wal", 0.02),
    ("exporting", EXPORT, "../.out.part", 0.05),
    ("exporting", EXPORT, "../.out.part", 0.3),
]


def command(words: list[str], root: Path) -> list[str]:
    filled = [word.format(project=root / "project", root=root) for word in words]
    return [sys.executable, "-P", "-m", "core.cli", *filled]


def run(words: list[str], root: Path) -> None:
    subprocess.run(command(words, root), check=True, capture_output=True)


def kill(words: list[str], root: Path, marker: str, wait: float) -> bool:
    """Start a command, kill it at its moment, and say whether it was still running then."""
    with subprocess.Popen(command(words, root), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list((root / "project").glob(marker)):
            time.sleep(0.0005)
        time.sleep(wait)
        alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
    return alive


def digests(root: Path) -> dict[str, str]:
    """The digest of every file that holds no time."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if (
            path.is_file()
            and path.name != "run.json"
            and not path.name.startswith(("review.sqlite", ".lock", "decisions."))
        ):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    if (root / "project" / "review.sqlite").exists():
        with sqlite3.connect(root / "project" / "review.sqlite") as database:
            rows = database.execute("select sample_id, action, label from log order by seq").fetchall()
        found["decisions in effect"] = repr(rows[-3:])
    return found


def without_times(found: dict[str, str]) -> dict[str, str]:
    """Leave out tables that carry decided_at, which differs from run to run."""
    return {name: digest for name, digest in found.items() if not name.startswith("out/manifest")}


def prepared(base: Path) -> None:
    """Make the project, and a sifted copy for what comes after sifting."""
    (base / "fresh").mkdir()
    run(["new", "{project}", "--source", "digits"], base / "fresh")
    shutil.copytree(base / "fresh", base / "whole")
    run(SIFT, base / "whole")
    ids = list(Project.open(base / "whole" / "project").findings().samples.query("split == 'train'").index[:3])
    lines = ["sample_id,action", *(f"{sample},exclude" for sample in ids)]
    (base / "whole" / "decisions.csv").write_text("\n".join(lines))
    shutil.copytree(base / "whole", base / "undisturbed")
    run(DECIDE, base / "undisturbed")
    run(EXPORT, base / "undisturbed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    chance, failures = random.Random(parser.parse_args().seed), 0
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        prepared(base)
        expected = without_times(digests(base / "undisturbed"))
        for trial, (what, words, marker, longest) in enumerate(MOMENTS):
            root = base / f"trial{trial}"
            shutil.copytree(base / ("fresh" if words is SIFT else "whole"), root)
            if words is SIFT:
                shutil.copy(base / "whole" / "decisions.csv", root)
            if words is EXPORT:
                run(DECIDE, root)
            wait = chance.uniform(0, longest)
            killed = kill(words, root, marker, wait)
            half = [str(path.relative_to(root)) for path in root.rglob("*") if ".part" in path.name]
            for each in (SIFT, DECIDE, EXPORT)[(SIFT, DECIDE, EXPORT).index(words) :]:
                if each is not EXPORT or not (root / "out").exists():
                    run(each, root)
            left = [str(path) for path in root.rglob("*") if ".part" in path.name]
            same = without_times(digests(root)) == expected
            failures += not same or bool(left)
            print(
                f"{what:<20} after {wait:6.3f} s  {'killed' if killed else 'had ended'}  "
                f"{len(half):>2} unfinished then, {len(left)} now  {'same bits' if same else 'DIFFERENT'}",
                flush=True,
            )
            shutil.rmtree(root)
    print(f"{len(MOMENTS) - failures} of {len(MOMENTS)} as undisturbed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
