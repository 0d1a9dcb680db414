"""What several tests share: drawn images, quick settings, the command line in a process of its own."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jaxtyping
import numpy as np
from PIL import Image

from core.models.recorder import History
from core.settings import SiftSettings

ROOT = Path(__file__).parents[1]
QUICK = SiftSettings(epochs=2, trees=20, image_size=8, neighbours=5, maps=False, device="cpu", precision="float32")
QUICK_FLAGS = ("--epochs", "2", "--trees", "20", "--image-size", "8", "--no-maps", "--device", "cpu")


def drawn(kind: int, row: int, side: int = 12) -> bytes:
    """A PNG of a noisy grey square that is bright on the left (kind 0) or on top (kind 1)."""
    rng = np.random.default_rng([kind, row])
    pixels = rng.integers(0, 80, (side, side, 3)).astype(np.uint8)
    if kind == 0:
        pixels[:, : side // 2] += np.uint8(150)
    else:
        pixels[: side // 2] += np.uint8(150)
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format="PNG")
    return target.getvalue()


def drawn_folder(root: Path, images: int = 60, names: tuple[str, str] = ("left", "top")) -> Path:
    """Class folders of drawn images, half of them of each kind; one in ten of `left` lies in the wrong folder."""
    for row in range(images):
        kind = row % 2
        folder = root / names[kind]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row:03d}.png").write_bytes(drawn(1 if row % 20 == 4 else kind, row))
    return root


def made_history(seed: int = 0, epochs: int = 4, samples: int = 12, classes: int = 3) -> History:
    """A record of random logits, worked out in float64 from the definitions."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (epochs, samples, classes))
    return history_of(logits, rng.integers(0, classes, samples), rng.uniform(1, 3, (epochs, samples)))


def history_of(logits: np.ndarray, labels: np.ndarray, input_norm: np.ndarray | None = None) -> History:
    """The slow twin of `Recorder`: one epoch and one sample at a time, from `t n c` logits."""
    epochs, samples, _ = logits.shape
    history = History.empty(epochs, samples)
    for epoch in range(epochs):
        history.learning_rate[epoch] = 0.1 * (epoch + 1)
        for row in range(samples):
            z, y = logits[epoch, row].astype(np.float64), int(labels[row])
            p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
            rivals = [c for c in range(len(z)) if c != y]
            rival = max(rivals, key=lambda c: z[c])
            history.given_logit[epoch, row], history.other_logit[epoch, row] = z[y], z[rival]
            history.other_class[epoch, row], history.given_prob[epoch, row] = rival, p[y]
            history.error_norm[epoch, row] = np.sqrt((1 - p[y]) ** 2 + sum(p[c] ** 2 for c in rivals))
            history.input_norm[epoch, row] = 1 if input_norm is None else input_norm[epoch, row]
    return history


@contextmanager
def unchecked() -> Iterator[None]:
    """Call `core` as a user does, without the shape checks of the test run: then its own messages are what is seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def command(*arguments: object) -> list[str]:
    """The command line as a long job is started: `python -P -m core.cli …`."""
    return [sys.executable, "-P", "-m", "core.cli", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def gradsift(*arguments: object, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, from another folder."""
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout, check=False
    )


def interrupted(
    arguments: list[str], cwd: Path, ready: Callable[[], bool], kind: signal.Signals, delay: float = 0.0
) -> tuple[int, str]:
    """Start a process, send it a signal `delay` seconds after `ready()`; return its status and its standard error."""
    process = subprocess.Popen(
        arguments, cwd=cwd, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    limit = time.monotonic() + 120
    while not ready() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.002)
    time.sleep(delay)
    if process.poll() is None:
        process.send_signal(kind)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def tree_digest(folder: Path) -> str:
    """Digest of every name and every byte below a folder."""
    state = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        state.update(str(path.relative_to(folder)).encode() + b"\0")
        state.update(path.read_bytes() if path.is_file() else b"")
    return state.hexdigest()
