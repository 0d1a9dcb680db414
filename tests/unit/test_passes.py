import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from core.data.manifest import Manifest
from core.errors import InputError, ModelError, Stopped
from core.models.device import choose
from core.models.fit import check_fit
from core.models.load import Loaded
from core.models.passes import BATCH_NUMBERS, batch_size, run_over
from core.models.transform import Transform
from core.progress import Event, Progress
from tests.helpers import drawn_folder

CPU = choose("cpu", "float32")


class Net(nn.Module):
    def __init__(self, classes: int = 2, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(channels, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.5),
        )
        self.head = nn.Linear(8, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(images))
        return logits


class Crammed(Net):
    """Has room for so many images at once, once it has seen the examples."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.passes = room, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        if self.passes > 2 and len(images) > self.room:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return super().forward(images)


class Ended(Net):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images).softmax(1)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return Manifest.read(f"folder:{drawn_folder(tmp_path / 'data', 30)}")


def as_loaded(network: nn.Module, classes: int | None = 2, transform: Transform | None = None) -> Loaded:
    return Loaded(network, transform or Transform(12), "digest", classes)


def one_by_one(network: nn.Module, manifest: Manifest, transform: Transform) -> tuple[np.ndarray, np.ndarray]:
    """The slow twin: torchvision's transforms and a pass for each image."""
    from torchvision.transforms import v2

    steps = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(transform.mean, transform.std)]
    logits, inputs = [], []
    network.eval()
    with torch.no_grad():
        for path in manifest.rows["filepath"]:
            with Image.open(path) as image:
                picture = v2.Compose(steps)(image.convert("RGB"))[None]
            inputs.append(network.body(picture)[0].numpy())
            logits.append(network.head(network.body(picture))[0].numpy())
    return np.stack(logits), np.stack(inputs)


def test_a_pass_equals_the_slow_twin_in_the_manifests_order(manifest: Manifest) -> None:
    network = Net()
    found = run_over(as_loaded(network), manifest, CPU, Progress())
    logits, inputs = one_by_one(network, manifest, Transform(12))
    np.testing.assert_allclose(found.logits, logits, atol=1e-5)
    np.testing.assert_allclose(found.inputs, inputs, atol=1e-5)
    assert (found.bias, found.layer) == (True, "head")
    assert found.facts["transform"] == str(Transform(12))
    assert found.facts["model"] == "digest"
    assert found.facts["device"] == "cpu"
    assert found.facts["precision"] == "float32"


def test_the_network_is_left_in_its_mode_and_progress_is_told(manifest: Manifest) -> None:
    events: list[Event] = []
    network = Net().train()
    network.body[1].eval()  # a frozen normalisation
    run_over(as_loaded(network), manifest, CPU, Progress(events.append), stage="backbone")
    assert network.training
    assert not network.body[1].training
    assert {event.stage for event in events} == {"backbone"}
    assert (events[-1].done, events[-1].total) == (len(manifest), len(manifest))


def test_tf32_is_off_during_a_pass_and_as_it_was_after(manifest: Manifest) -> None:
    seen: set[tuple[bool, bool]] = set()
    network = Net()
    network.body[0].register_forward_hook(lambda *_: seen.add(tf32()))
    before = tf32()
    run_over(as_loaded(network), manifest, CPU, Progress())
    assert seen == {(False, False)}
    assert tf32() == before


def tf32() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def test_a_stop_ends_the_pass(manifest: Manifest) -> None:
    with pytest.raises(Stopped, match="during features"):
        run_over(as_loaded(Net()), manifest, CPU, Progress(should_stop=lambda: True))


@pytest.mark.parametrize("room", [16, 3, 1])
def test_a_batch_that_does_not_fit_is_halved_and_it_is_said(room: int, manifest: Manifest) -> None:
    plenty = run_over(as_loaded(Net()), manifest, CPU, Progress())
    network, said = Crammed(room), list[str]()
    tight = run_over(as_loaded(network), manifest, CPU, Progress(note=said.append))
    np.testing.assert_allclose(tight.logits, plenty.logits, atol=1e-5)
    assert tight.facts["batch"] <= room
    assert said[-1] == f"The memory is too small for that many images at once; goes on with {tight.facts['batch']}."


def test_an_image_that_does_not_fit_alone_is_told(manifest: Manifest) -> None:
    with pytest.raises(ModelError, match="Not even one image of 12 × 12 pixels fits into memory"):
        run_over(as_loaded(Crammed(0)), manifest, CPU, Progress())


def test_other_errors_of_the_network_are_not_taken_for_memory(manifest: Manifest) -> None:
    with pytest.raises(RuntimeError, match="expected input"):
        run_over(as_loaded(Net(channels=4)), manifest, CPU, Progress())


def test_images_that_are_gone_or_changed_are_told(manifest: Manifest) -> None:
    paths = [Path(path) for path in manifest.rows["filepath"]]
    paths[3].unlink()
    target = io.BytesIO()
    Image.new("RGB", (12, 12)).save(target, format="PNG")
    paths[5].write_bytes(target.getvalue())
    with pytest.raises(InputError, match=r"2 of 30 images are gone or have changed .* \(the first, .*: no such file\)"):
        run_over(as_loaded(Net()), manifest, CPU, Progress())


def test_every_image_gone_is_told_too(manifest: Manifest) -> None:
    for path in manifest.rows["filepath"]:
        Path(path).unlink()
    with pytest.raises(InputError, match="30 of 30 images are gone"):
        run_over(as_loaded(Net()), manifest, CPU, Progress())


def test_a_softmax_is_refused_unless_the_layer_is_named(manifest: Manifest) -> None:
    with pytest.raises(ModelError, match=r"--layer: head \(8 → 2\)"):
        run_over(as_loaded(Ended()), manifest, CPU, Progress())
    named = run_over(as_loaded(Ended()), manifest, CPU, Progress(), "head")
    plain = run_over(as_loaded(Net()), manifest, CPU, Progress())
    np.testing.assert_array_equal(named.logits, plain.logits)
    np.testing.assert_array_equal(named.inputs, plain.inputs)


def test_a_network_of_another_class_count_without_a_head_gives_its_output_as_features(manifest: Manifest) -> None:
    network = nn.Sequential(Net(classes=5), nn.Softmax(1))
    found = run_over(as_loaded(network, 5), manifest, CPU, Progress())
    assert found.logits.shape == (30, 0)
    assert found.inputs.shape == (30, 5)
    assert (found.layer, found.bias) == ("", False)


class Sees(nn.Module):
    """Tells the drawn images apart: bright on the left, or on top."""

    def __init__(self, turned: bool) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()), nn.Linear(12, 2)
        left, top = torch.tensor([1.0, -1, 1, -1]).repeat(3), torch.tensor([1.0, 1, -1, -1]).repeat(3)
        with torch.no_grad():
            self.head.weight.copy_(torch.stack([top, left] if turned else [left, top]))
            self.head.bias.zero_()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(images))
        return logits


def test_a_shuffled_head_is_found_on_images_and_its_renaming_printed(manifest: Manifest) -> None:
    right, turned = (run_over(as_loaded(Sees(way)), manifest, CPU, Progress()) for way in (False, True))
    assert check_fit(right.logits, manifest.labels, manifest.classes).accuracy > 0.9
    with pytest.raises(ModelError, match="renamed: left is top, top is left"):
        check_fit(turned.logits, manifest.labels, manifest.classes)


def test_maps_without_a_head_are_averaged(manifest: Manifest) -> None:
    network = nn.Conv2d(3, 4, 3)
    found = run_over(as_loaded(network, None), manifest, CPU, Progress())
    assert found.inputs.shape == (30, 4)


def test_values_that_are_not_finite_name_the_image(manifest: Manifest) -> None:
    network = Net()
    with torch.no_grad():
        network.head.bias[0] = float("nan")
    with pytest.raises(ModelError, match=r"not finite \(.*000.png is the first image\)"):
        run_over(as_loaded(network), manifest, CPU, Progress())


def test_a_folder_takes_the_arrays(manifest: Manifest, tmp_path: Path) -> None:
    found = run_over(as_loaded(Net()), manifest, CPU, Progress(), folder=tmp_path)
    plain = run_over(as_loaded(Net()), manifest, CPU, Progress())
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), plain.logits)
    np.testing.assert_array_equal(np.load(tmp_path / "inputs.npy"), plain.inputs)
    assert isinstance(found.logits, np.memmap)


def test_the_order_of_the_rows_changes_nothing(manifest: Manifest) -> None:
    turned = replace(manifest, rows=manifest.rows.iloc[::-1].reset_index(drop=True))
    there, back = (run_over(as_loaded(Net()), m, CPU, Progress()) for m in (manifest, turned))
    np.testing.assert_allclose(back.logits[::-1], there.logits, atol=1e-6)


@pytest.mark.parametrize(("numbers", "size"), [(2**20, 1024), (2**14, 16), (100, 4)])
def test_the_batch_follows_the_largest_output_of_any_layer(
    numbers: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BATCH_NUMBERS, "cpu", numbers)  # 8 maps of 10 x 10: 800 numbers an image
    assert batch_size(Net(), torch.zeros(2, 3, 12, 12)) == size
