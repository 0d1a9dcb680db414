"""Seconds and peak memory of every stage on a large set, each stage in a process of its own.

    python tests/bench/whole_run.py PROJECT

PROJECT is one that `gradsift new` made. Each stage is computed in a fresh process (so that peak memory is the stage's
own) and the figures are read from its run.json. The product of two 2048 x 2048 float32 matrices, timed beside, says how
fast the machine was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

STAGES = ("pixels", "features", "neighbours", "scores", "map")
ONE_STAGE = """
import sys
from dataclasses import replace
from core.models.specs import Permissions
from core.pipeline import plan_of
from core.pipeline.run import Means, Run
from core.progress import Progress
from core.project import Project
project, stage = Project.open(sys.argv[1]), sys.argv[2]
planned = plan_of(project)
names = list(planned.keys)
wanted = {name: planned.keys[name] for name in names[: names.index(stage) + 1]}
means = Means(project.stages, Progress(), Permissions(), project)
run = Run(project.manifest(), project.config.settings, replace(planned, keys=wanted), means)
run.all()
"""


def product_seconds() -> float:
    left = torch.ones(2048, 2048)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        left @ left
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    options = parser.parse_args()
    total, yardstick = 0.0, product_seconds()
    print(f"{'stage':<12}{'seconds':>10}{'x product':>12}{'peak MB':>10}")
    for stage in STAGES:
        subprocess.run([sys.executable, "-c", ONE_STAGE, str(options.project), stage], check=True)
        (folder,) = (options.project / "stages").glob(f"{stage}-*")
        facts = json.loads((folder / "run.json").read_text())
        total += facts["seconds"]
        took, peak = facts["seconds"], facts["peak_memory_mb"]
        print(f"{stage:<12}{took:>10.1f}{took / yardstick:>12,.0f}{peak:>10,}", flush=True)
    print(f"{'in all':<12}{total:>10.1f}{total / yardstick:>12,.0f}")


if __name__ == "__main__":
    main()
