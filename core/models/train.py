"""Train a network on the given labels, usually the reference network, and record what it says about every sample.

One-cycle SGD, flip-and-shift augmentation, no early stopping, no best epoch. Every random choice is a function of
(seed, epoch, sample) (`core.chance`), dropout one of (seed, step), the schedule is a function of the step, and a
checkpoint is written after every epoch: a training that was stopped or killed goes on to the same bits as an
undisturbed one (same machine, versions and thread count).

Held-out rows are never trained on; they are evaluated once per epoch, without augmentation, and recorded beside the
others, which is also how `window` can tell when memorisation sets in.

A `Task` may weigh its rows, and may fix how many images an epoch shows: a training on fewer rows then takes as many
steps as one on all of them, pass after pass over the rows, each in an order of its own.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from core import chance
from core.axes import Array, Bool, Float, Integer, UInt8
from core.errors import ModelError
from core.models.architecture import REFERENCE, Architecture
from core.models.device import Compute, seeded
from core.models.network import Network
from core.models.recorder import History, Recorder
from core.progress import Progress
from core.settings import SiftSettings

WARM_UP = 0.2  # share of the steps in which the learning rate rises
EVALUATION_BATCH = 512  # images of at most 64 pixels, fewer of larger ones
SNAPSHOTS = 5  # weights kept, evenly spread, for scores that need several checkpoints


@dataclass(frozen=True)
class Task:
    """What is trained: pixels and given labels of all rows, and which of them may be trained on.

    Attributes:
        held_out: the rows that are evaluated once per epoch; None: all that are not trained on.
        weights: what a row's loss counts, 1 for a usual one; None: all the same.
        images_per_epoch: images shown between two evaluations; None: every training row once.
    """

    sample_ids: tuple[str, ...]
    pixels: UInt8[Array, "n side side 3"]
    labels: Integer[Array, " n"]
    train: Bool[Array, " n"]
    classes: int
    flip: bool
    held_out: Bool[Array, " n"] | None = None
    weights: Float[Array, " n"] | None = None
    images_per_epoch: int | None = None

    @property
    def statistics(self) -> tuple[Array, Array]:
        """Mean and standard deviation per channel over (at most 10,000, evenly spread) training images, in 0..255."""
        rows = np.flatnonzero(self.train)
        some = rows[:: -(-len(rows) // 10_000)]
        total, squares, count = np.zeros(3), np.zeros(3), 0
        for begin in range(0, len(some), 256):
            block = np.asarray(self.pixels[some[begin : begin + 256]]).reshape(-1, 3).astype(np.float64)
            total, squares, count = total + block.sum(0), squares + (block**2).sum(0), count + len(block)
        mean = total / count
        return mean, np.maximum(np.sqrt(np.maximum(squares / count - mean**2, 0)), 1.0)


@dataclass(frozen=True)
class Trained:
    """A trained network, the record of its training, and how its inputs are normalised."""

    network: Network
    history: History
    statistics: tuple[Array, Array]


def planned_epochs(settings: SiftSettings, rows: int) -> int:
    """Return the epochs of a run: as set, else 20, and up to 60 where 20 would be fewer than 500 steps."""
    if settings.epochs is not None:
        return settings.epochs
    steps = math.ceil(rows / settings.batch_size)
    return min(60, max(20, math.ceil(500 / steps)))


def rate_and_momentum(step: int, steps: int, peak: float) -> tuple[float, float]:
    """Return learning rate and momentum of one-cycle SGD at `step` of `steps` (Smith and Topin 2019, cosine form)."""

    def between(start: float, end: float, share: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    top = WARM_UP * steps
    if step <= top:
        return between(peak / 25, peak, step / max(top, 1)), between(0.95, 0.85, step / max(top, 1))
    share = (step - top) / max(steps - top, 1)
    return between(peak, peak / 250_000, share), between(0.85, 0.95, share)


def train(
    task: Task,
    settings: SiftSettings,
    compute: Compute,
    folder: Path,
    progress: Progress,
    architecture: Architecture = REFERENCE,
    *,
    snapshots: bool = True,
) -> Trained:
    """Train from the architecture's first weights, or go on from the checkpoint in `folder`.

    With `snapshots` the weights of every epoch are kept, else those of the last alone, in the checkpoint.

    Raises:
        ModelError: a batch gave a loss that is not a number, the checkpoint in `folder` is damaged, or the network
            cannot be made.
        Stopped: the person asked for it; the last finished epoch is on disk.
    """
    run = _Run(task, settings, compute, folder, progress, architecture)
    for epoch in range(run.start(), run.epochs):
        run.train_epoch(epoch)
        run.evaluate_held_out(epoch)
        run.save(epoch, snapshots)
    return Trained(run.network, run.recorder.history(), run.statistics)


class _Run:
    """One training in progress."""

    def __init__(
        self,
        task: Task,
        settings: SiftSettings,
        compute: Compute,
        folder: Path,
        progress: Progress,
        architecture: Architecture,
    ) -> None:
        self.task, self.settings, self.compute, self.folder, self.progress = task, settings, compute, folder, progress
        self.peak, self.clip = settings.learning_rate * architecture.rate, architecture.clip
        self.rows = np.flatnonzero(task.train)
        self.keys = chance.sample_keys(task.sample_ids)
        self.images = task.images_per_epoch or len(self.rows)
        self.epochs = planned_epochs(settings, self.images)
        self.statistics = architecture.statistics or task.statistics
        self.recorder = Recorder(task.sample_ids)
        with seeded(settings.seed):
            self.network = architecture.build(task.classes).to(compute.device)
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=settings.weight_decay
        )
        self.batches = _even_batches(self.images, settings.batch_size)

    def train_epoch(self, epoch: int) -> None:
        """Run as many images through the network as an epoch has: every training row once, unless told otherwise."""
        steps = len(self.batches) - 1
        order, passes = self._order(epoch)
        self.network.train()
        rates, loss_sum, right = [], 0.0, 0
        for step, (begin, end) in enumerate(zip(self.batches, self.batches[1:], strict=False)):
            rate, momentum = rate_and_momentum(epoch * steps + step, self.epochs * steps, self.peak)
            self.optimiser.param_groups[0].update(lr=rate, momentum=momentum)
            rates.append(rate)
            forward = begin + np.argsort(order[begin:end], kind="stable")  # reads from a memory map go forward
            rows = order[forward]
            loss, logits = self._step(rows, passes[forward], epoch, epoch * steps + step)
            loss_sum += loss * len(rows)
            right += int((logits.argmax(1) == self.task.labels[rows]).sum())
            self.progress.report(
                "training", epoch * len(order) + end, self.epochs * len(order), "images",
                epoch=epoch + 1, epochs=self.epochs, loss=loss_sum / end, accuracy=right / end,
            )  # fmt: skip
        self.recorder.history().learning_rate[epoch] = np.mean(rates)

    def _order(self, epoch: int) -> tuple[Integer[Array, " n"], Integer[Array, " n"]]:
        """The rows of an epoch in their order, and which pass over the rows each belongs to; passes are endless."""
        passes, at = np.divmod(np.arange(epoch * self.images, (epoch + 1) * self.images), len(self.rows))
        keys, order = self.keys[self.rows], np.empty(self.images, np.int64)
        for each in np.unique(passes):
            drawn = chance.uniform(keys, self.settings.seed, "order", int(each))
            order[passes == each] = self.rows[np.argsort(drawn, kind="stable")][at[passes == each]]
        return order, passes

    def _step(
        self, rows: Integer[Array, " n"], passes: Integer[Array, " n"], epoch: int, step: int
    ) -> tuple[float, Float[Array, "n c"]]:
        images = self._augmented(rows, passes)
        labels = torch.from_numpy(self.task.labels[rows].astype(np.int64)).to(self.compute.device)
        with seeded(_step_seed(self.settings.seed, step), self.compute.device), self.compute.autocast():
            logits, inputs = self.network(images)
        loss = self._loss(logits, labels, rows)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimiser.step()
        logged = logits.detach().cpu().numpy()
        value = float(loss.detach())
        if not math.isfinite(value) or not np.isfinite(logged).all():
            raise self._diverged(f"a loss of {value}", epoch)
        self.recorder.log_rows(rows, logged, self.task.labels[rows], epoch, inputs.detach().cpu().numpy())
        return value, logged

    def _loss(self, logits: Tensor, labels: Tensor, rows: Integer[Array, " n"]) -> Tensor:
        if self.task.weights is None:
            return functional.cross_entropy(logits, labels)
        weights = torch.from_numpy(self.task.weights[rows].astype(np.float32)).to(logits.device)
        return (functional.cross_entropy(logits, labels, reduction="none") * weights).mean()

    def _augmented(self, rows: Integer[Array, " n"], passes: Integer[Array, " n"]) -> Tensor:
        images = normalise(self.task.pixels[rows], self.statistics, self.compute.device)
        if not self.settings.augment:
            return images.contiguous(memory_format=torch.channels_last)
        reach = max(1, images.shape[-1] // 8)
        down, right = (
            np.floor(self._drawn(rows, passes, purpose) * (2 * reach + 1)).astype(np.int64)
            for purpose in ("down", "right")
        )
        mirrored = (self._drawn(rows, passes, "mirror") < 0.5) & self.task.flip
        return shifted(images, reach, down, right, mirrored)

    def _drawn(self, rows: Integer[Array, " n"], passes: Integer[Array, " n"], purpose: str) -> Float[Array, " n"]:
        """A number per image, the same for a sample in the same pass whoever is trained beside it."""
        found = np.empty(len(rows))
        for each in np.unique(passes):
            of = passes == each
            found[of] = chance.uniform(self.keys[rows[of]], self.settings.seed, purpose, int(each))
        return found

    def evaluate_held_out(self, epoch: int) -> None:
        """Record the held-out rows, which no step has seen, without augmentation."""
        held_out = np.flatnonzero(~self.task.train if self.task.held_out is None else self.task.held_out)
        for rows, logits, inputs in evaluate(self.network, self.task, self.statistics, self.compute, held_out):
            if not np.isfinite(logits).all():
                raise self._diverged("logits that are not finite", epoch)
            self.recorder.log_rows(rows, logits, self.task.labels[rows], epoch, inputs)

    def _diverged(self, what: str, epoch: int) -> ModelError:
        return ModelError(
            f"Training gave {what} in epoch {epoch + 1}. "
            f"Lower the learning rate (now {self.settings.learning_rate:g}) or set the precision to float32."
        )

    def save(self, epoch: int, snapshot: bool = True) -> None:
        """Write this epoch's record and weights, and last the checkpoint that makes them count."""
        history = self.recorder.history()
        row = {name: array[epoch] for name, array in history.arrays().items()}
        replace(self.folder / f"epoch-{epoch:04d}.npz", lambda path: _save_npz(path, row))
        weights = {f"network.{name}": tensor.contiguous() for name, tensor in self.network.stored.state_dict().items()}
        moments = {
            f"momentum.{name}": self.optimiser.state[parameter]["momentum_buffer"].contiguous()
            for name, parameter in self.network.stored.named_parameters()
            if parameter in self.optimiser.state  # else no loss depends on it
        }
        facts = {"epoch": str(epoch)}
        if snapshot:
            replace(self.folder / _snapshot(epoch), lambda path: save_file(weights, path, facts))
        replace(self.folder / "checkpoint.safetensors", lambda path: save_file({**weights, **moments}, path, facts))

    def start(self) -> int:
        """Load the checkpoint, if there is one, and return the epoch to go on with."""
        path = self.folder / "checkpoint.safetensors"
        if not path.exists():
            return 0
        try:
            with safe_open(path, "pt") as stored:
                last = int(stored.metadata()["epoch"])
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
            records = [_load_npz(self.folder / f"epoch-{epoch:04d}.npz") for epoch in range(last + 1)]
            self._restore(tensors, records)
        except (
            SafetensorError,
            BadZipFile,
            OSError,
            EOFError,
            LookupError,
            TypeError,
            ValueError,
            RuntimeError,
        ) as error:
            raise ModelError(
                f"The checkpoint {path.name} in {path.parent} cannot be read ({' '.join(str(error).split())}). "
                "Delete that folder to train from the start."
            ) from error
        return last + 1

    def _restore(self, tensors: Mapping[str, Tensor], records: list[dict[str, Array]]) -> None:
        of = {prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
              for prefix in ("network.", "momentum.")}  # fmt: skip
        self.network.stored.load_state_dict(of["network."])
        for name, parameter in self.network.stored.named_parameters():
            if name not in of["momentum."]:
                continue
            like = torch.empty_like(parameter)  # the same memory layout as an undisturbed run's
            self.optimiser.state[parameter]["momentum_buffer"] = like.copy_(of["momentum."][name])
        self.recorder.resume(History(**{name: np.stack([row[name] for row in records]) for name in records[0]}))


def evaluate(
    network: Network,
    task: Task,
    statistics: tuple[Array, Array],
    compute: Compute,
    rows: Integer[Array, " n"],
    *,
    mirror: bool = False,
) -> Iterator[tuple[Array, Array, Array]]:
    """Yield (rows, logits, inputs) of evaluation-mode passes, without augmentation, batch by batch."""
    was_training, size = network.training, evaluation_batch(task.pixels.shape[1])
    network.eval()
    try:
        with torch.inference_mode():
            for begin in range(0, len(rows), size):
                some = rows[begin : begin + size]
                images = normalise(task.pixels[some], statistics, compute.device)
                images = images.flip(-1) if mirror else images
                with compute.autocast():
                    logits, inputs = network(images.contiguous(memory_format=torch.channels_last))
                yield some, logits.cpu().numpy(), inputs.cpu().numpy()
    finally:
        network.train(was_training)


def evaluation_batch(side: int) -> int:
    """Return how many images of `side` pixels an evaluation pass takes at once: as many pixels whatever the side."""
    return max(8, min(EVALUATION_BATCH, EVALUATION_BATCH * 64**2 // side**2))


def normalise(pixels: Array, statistics: tuple[Array, Array], device: torch.device) -> Tensor:
    """Turn `n x side x side x 3` bytes into a normalised `n x 3 x side x side` tensor on the device."""
    mean, deviation = (torch.from_numpy(value).float().to(device) for value in statistics)
    images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).float()
    return ((images - mean) / deviation).permute(0, 3, 1, 2)


def shifted(images: Tensor, reach: int, down: Array, right: Array, mirrored: Array) -> Tensor:
    """Cut each image out of itself padded by `reach` (with the mean colour), moved and mirrored by its own amounts."""
    side, device = images.shape[-1], images.device
    padded = functional.pad(images, (reach,) * 4).permute(0, 2, 3, 1).contiguous()
    steps = np.arange(side)
    columns = np.where(mirrored[:, None], steps[::-1], steps) + right[:, None]
    lines = torch.from_numpy(down[:, None] + steps).to(device)
    across = torch.from_numpy(columns).to(device)
    sample = torch.arange(len(images), device=device)[:, None, None]
    return padded[sample, lines[:, :, None], across[:, None, :]].permute(0, 3, 1, 2)


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: under a temporary name, flushed to disk, then renamed."""
    temporary = path.with_name(f".{path.name}.part")
    write(temporary)
    with temporary.open("rb") as handle:
        os.fsync(handle.fileno())
    temporary.replace(path)


def _save_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    with path.open("wb") as handle:
        np.savez(handle, **dict[str, Any](arrays))


def _load_npz(path: Path) -> dict[str, Array]:
    with path.open("rb") as handle:  # numpy leaves the file of a damaged archive open
        return dict(np.load(handle))


def _even_batches(rows: int, size: int) -> list[int]:
    """Return batch borders; batches differ by one row at most, so that none is too small to normalise over."""
    count = max(1, min(round(rows / size), rows // 2))
    return [round(rows * part / count) for part in range(count + 1)]


def _step_seed(seed: int, step: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/dropout/{step}".encode(), digest_size=7).digest(), "little")


def _snapshot(epoch: int) -> str:
    return f"weights-{epoch:04d}.safetensors"


def network_after(
    folder: Path, epoch: int, classes: int, compute: Compute, architecture: Architecture = REFERENCE
) -> Network:
    """Load the network as it was after `epoch` (counted from 0); its weights must not have been tidied away."""
    with seeded(0):  # the first weights are replaced; the global generator stays as it was
        network = architecture.build(classes).to(compute.device)
    stored = load_file(folder / _snapshot(epoch))
    network.stored.load_state_dict({name.removeprefix("network."): tensor for name, tensor in stored.items()})
    return network


def kept_epochs(epochs: int) -> list[int]:
    """Return the epochs, counted from 1, after which the weights are kept: evenly spread, the last among them."""
    return sorted({max(1, round(epochs * (part + 1) / SNAPSHOTS)) for part in range(SNAPSHOTS)})


def tidy(folder: Path, epochs: int) -> None:
    """Delete what only a resumed training needs, half files too; keep a few weights, evenly spread."""
    kept = {_snapshot(epoch - 1) for epoch in kept_epochs(epochs)}
    finished = [folder / "checkpoint.safetensors", *folder.glob("epoch-*.npz"), *folder.glob(".*.part")]
    for path in [*finished, *(each for each in folder.glob("weights-*") if each.name not in kept)]:
        path.unlink(missing_ok=True)


def weights_digest(folder: Path, epochs: int) -> str:
    """Return the SHA-256 (hex) of the weights after the last epoch."""
    return hashlib.sha256((folder / _snapshot(epochs - 1)).read_bytes()).hexdigest()
