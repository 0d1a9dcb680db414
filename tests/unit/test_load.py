import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from core.data.sources.base import ROOTS
from core.errors import ModelError, SettingsError
from core.models import zoo
from core.models.load import Loaded, load, model_digest
from core.models.specs import ModelSpec, Permissions, absolute_model, parse_model
from core.models.transform import Transform
from core.progress import Progress

TWO = ("cat", "dog")
SMALL = "mobilenet_v3_small"


@cache
def network(name: str = "resnet18", classes: int = 2) -> nn.Module:
    from torchvision import models

    torch.manual_seed(0)
    return models.get_model(name, weights=None, num_classes=classes).eval()


def saved(path: Path, state: Mapping[str, object]) -> Path:
    torch.save(dict(state), path)
    return path


def loaded(text: str, classes: tuple[str, ...] = TWO, side: int = 32, transform: str | None = None, **more) -> Loaded:
    return load(parse_model(text), classes, transform, more.pop("permissions", Permissions()), side, **more)


def same_answers(a: nn.Module, b: nn.Module, side: int = 32) -> bool:
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        return torch.equal(a(images), b(images))


def test_a_torchvision_network_comes_back_with_its_weights(tmp_path: Path) -> None:
    found = loaded(f"torchvision:resnet18@{saved(tmp_path / 'w.pt', network().state_dict())}")
    assert same_answers(found.network, network())
    assert (found.classes, found.class_names) == (2, None)
    assert not any(module.training for module in found.network.modules())
    assert found.transform == Transform(32)
    assert found.notes == (
        f"The weights do not say how images become their input. Taken for granted: {Transform(32)}. "
        "Set --transform where the training had another.",
    )


def test_loading_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", network().state_dict())
    before = torch.get_rng_state()
    loaded(f"torchvision:resnet18@{path}")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "side", "expected"),
    [
        ("resnet18", 64, Transform(64)),
        ("resnet18", 65, Transform(256, 224)),
        ("alexnet", 32, Transform(256, 224)),  # takes no images that small
    ],
)
def test_small_images_are_fed_at_their_own_size_where_the_network_takes_them(
    name: str, side: int, expected: Transform, tmp_path: Path
) -> None:
    path = saved(tmp_path / "w.pt", network(name).state_dict())
    assert loaded(f"torchvision:{name}@{path}", side=side).transform == expected


def test_a_transform_that_was_set_is_taken_and_said(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", network().state_dict())
    found = loaded(f"torchvision:resnet18@{path}", transform="resize=40,crop=36,mean=0.5/0.5/0.5")
    assert found.transform == Transform(40, 36, (0.5, 0.5, 0.5))
    assert found.notes == (
        f"Images become the input of torchvision:resnet18 by {found.transform} "
        "(asked for: resize=40,crop=36,mean=0.5/0.5/0.5).",
    )
    with pytest.raises(SettingsError, match="holds 'size=9'"):
        loaded(f"torchvision:resnet18@{path}", transform="size=9")


@pytest.mark.parametrize(
    ("text", "side", "expected"),
    [
        ("mean=0/0/0,std=1/1/1", 32, Transform(32, None, (0.0,) * 3, (1.0,) * 3)),
        ("mean=0/0/0,std=1/1/1", 200, Transform(256, 224, (0.0,) * 3, (1.0,) * 3)),
        ("interpolation=nearest", 32, Transform(32, interpolation="nearest")),
        ("resize=40", 200, Transform(40)),
        ("mean=0.5,std=0.5", 32, Transform(32, None, (0.5,) * 3, (0.5,) * 3)),  # one value for three channels
        ("mean=0.5", 32, Transform(32, None, (0.5,) * 3)),
    ],
)
def test_parts_of_a_transform_that_are_not_named_stay_automatic(
    text: str, side: int, expected: Transform, tmp_path: Path
) -> None:
    path = saved(tmp_path / "w.pt", network().state_dict())
    assert loaded(f"torchvision:resnet18@{path}", side=side, transform=text).transform == expected


def test_one_mean_stays_grey_for_a_network_that_takes_grey(tmp_path: Path) -> None:
    (tmp_path / "grey.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))\n"
    )
    found = loaded(f"code:{tmp_path / 'grey.py'}:make", side=8, transform="resize=8,mean=0.5,std=0.5")
    assert found.transform == Transform(8, None, (0.5,), (0.5,))


def test_another_class_count_makes_a_feature_extractor_and_is_said(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", network("resnet18", 7).state_dict())
    found = loaded(f"torchvision:resnet18@{path}")
    assert found.classes == 7
    assert "knows 7 classes, the data has 2: it serves as a feature extractor" in found.notes[-1]
    assert len(loaded(f"torchvision:resnet18@{path}", classes=()).notes) == 1


def test_weights_without_a_head_give_features(tmp_path: Path) -> None:
    state = {name: value for name, value in network().state_dict().items() if not name.startswith("fc.")}
    found = loaded(f"torchvision:resnet18@{saved(tmp_path / 'w.pt', state)}")
    assert found.classes is None
    assert "has no head: it serves as a feature extractor" in found.notes[-1]
    assert found.network(torch.randn(2, 3, 32, 32)).shape == (2, 512)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("resnet18", "fc.", "fc.1."),  # model.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 2))
        (SMALL, "classifier.3.", "classifier.3.1."),
        ("efficientnet_b0", "classifier.1.", "classifier."),  # model.classifier = nn.Linear(1280, 2)
    ],
)
def test_a_head_replaced_by_dropout_and_a_linear_layer_is_recognised(
    name: str, old: str, new: str, tmp_path: Path
) -> None:
    state = {key.replace(old, new): value for key, value in network(name).state_dict().items()}
    found = loaded(f"torchvision:{name}@{saved(tmp_path / 'w.pt', state)}")
    assert found.classes == 2
    assert same_answers(found.network, network(name))


def test_a_head_of_two_layers_is_not_guessed_at(tmp_path: Path) -> None:
    state = {key: value for key, value in network().state_dict().items() if not key.startswith("fc.")}
    state |= {"fc.0.weight": torch.ones(8, 512), "fc.0.bias": torch.ones(8), "fc.2.weight": torch.ones(2, 8)}
    with pytest.raises(ModelError) as refused:
        loaded(f"torchvision:resnet18@{saved(tmp_path / 'w.pt', state)}")
    assert str(refused.value) == (
        "w.pt does not fit resnet18. Missing in the file: fc.weight, fc.bias. In the file alone: fc.0.weight, "
        "fc.0.bias, fc.2.weight. Name the architecture that they were trained in; for one that was changed (another "
        "first layer, another head), give the code that makes it: code:FILE.py:CALLABLE@WEIGHTS"
    )


def test_weights_of_another_architecture_say_what_differs_and_whose_they_are(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", network("resnet34").state_dict())
    with pytest.raises(ModelError) as refused:
        loaded(f"torchvision:resnet18@{path}")
    assert str(refused.value).startswith("w.pt does not fit resnet18. In the file alone: layer1.2.conv1.weight, ")
    assert str(refused.value).endswith(" more. They fit resnet34.")


def test_a_cifar_stem_is_told_by_its_shape(tmp_path: Path) -> None:
    state = {**network().state_dict(), "conv1.weight": torch.ones(64, 3, 3, 3)}
    with pytest.raises(
        ModelError, match="Of another shape: conv1.weight .64×3×3×3 in the file, 64×3×7×7 in the network.. .*code:FILE"
    ):
        loaded(f"torchvision:resnet18@{saved(tmp_path / 'w.pt', state)}")


def test_names_that_are_none_are_told_before_the_file_is_looked_for() -> None:
    with pytest.raises(ModelError, match=r"torchvision has no architecture 'resnet19'. Did you mean resnet\d+"):
        loaded("torchvision:resnet19@none.pt")
    with pytest.raises(ModelError, match=r"The weights none.pt cannot be read: no such file"):
        loaded("torchvision:resnet18@none.pt")
    with pytest.raises(ModelError, match="reference is no finished network"):
        loaded("reference")


def test_densenets_of_the_old_naming_load(tmp_path: Path) -> None:
    state = {}
    for name, value in network("densenet121").state_dict().items():
        for part in ("norm1", "norm2", "conv1", "conv2"):
            name = name.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.") if "denselayer" in name else name
        state[name] = value
    found = loaded(f"torchvision:densenet121@{saved(tmp_path / 'w.pt', state)}", transform="resize=32")
    assert same_answers(found.network, network("densenet121"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of torch.hub's."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def test_default_weights_that_are_not_here_say_what_to_fetch_and_where_to_put_it(hub: Path) -> None:
    with pytest.raises(ModelError) as refused:
        loaded("torchvision:resnet18@DEFAULT")
    assert str(refused.value) == (
        "The weights of torchvision:resnet18@DEFAULT are not on this machine. Allow it with --download. "
        "Or: Fetch https://download.pytorch.org/models/resnet18-f37072fd.pth and put it into "
        f"{hub} as resnet18-f37072fd.pth, or name your copy: torchvision:resnet18@FILE"
    )
    assert not hub.exists()


def test_default_weights_in_torch_hubs_folder_are_taken_with_their_own_transform_and_class_names(hub: Path) -> None:
    hub.mkdir(parents=True)
    saved(hub / "resnet18-f37072fd.pth", network("resnet18", 1000).state_dict())
    found = loaded("torchvision:resnet18@DEFAULT")
    assert found.transform == Transform(256, 224)
    assert found.class_names is not None
    assert (len(found.class_names), found.class_names[0]) == (1000, "tench")
    by = f"Images become the input of torchvision:resnet18 by {Transform(256, 224)}, as its weights say."
    assert (found.notes[0], len(found.notes)) == (by, 2)


def offered(monkeypatch: pytest.MonkeyPatch, source: Path, hub: Path, sha256: str) -> None:
    """Make a file the weights that torchvision offers of resnet18."""
    standard = zoo.Standard(source.as_uri(), hub / "offered.pth", sha256)
    library = replace(zoo.LIBRARIES["torchvision"], standard=lambda _: standard)
    monkeypatch.setattr(zoo, "LIBRARIES", {**zoo.LIBRARIES, "torchvision": library})


def test_default_weights_are_fetched_where_that_is_permitted_and_it_is_said_before(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(tmp_path / "w.pt", network().state_dict())
    digest, said = hashlib.sha256(source.read_bytes()).hexdigest(), list[str]()
    offered(monkeypatch, source, hub, digest[:8])
    progress = Progress(note=lambda text: said.append(f"{text} {hub.exists()}"))
    found = loaded("torchvision:resnet18@DEFAULT", permissions=Permissions(download=True), progress=progress)
    assert same_answers(found.network, network())
    assert said == [f"Fetching {source.as_uri()} False"]
    loaded("torchvision:resnet18@DEFAULT")  # from now on it is here


@pytest.mark.parametrize("why", ["gone", "another file"])
def test_a_fetch_that_fails_leaves_nothing_and_says_how_to_do_it_by_hand(
    why: str, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "w.pt"
    if why == "another file":
        source.write_bytes(b"another")
    offered(monkeypatch, source, hub, "0" * 8)
    with pytest.raises(
        ModelError, match=r"could not be fetched \(.*\). Fetch file://.* or name your copy: torchvision:"
    ):
        loaded("torchvision:resnet18@DEFAULT", permissions=Permissions(download=True))
    assert list(hub.iterdir()) == []


def test_a_copy_of_the_librarys_own_weights_is_known_by_its_digest(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(tmp_path / "renamed.pt", network().state_dict())
    offered(monkeypatch, source, hub, hashlib.sha256(source.read_bytes()).hexdigest()[:8])
    assert loaded(f"torchvision:resnet18@{source}").transform == Transform(256, 224)


CODE = """
import torch
from torch import nn
from sibling import WIDTH

open({mark!r}, "w").close()

class Net(nn.Module):
    def __init__(self, count=2):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(WIDTH, count)

    def forward(self, x):
        return self.head(self.body(x))

def make():
    torch.manual_seed(0)
    return Net()

def sized(num_classes): return Net(num_classes)
def two(num_classes, width): return Net(num_classes)
def fails(): raise ValueError("no luck")
def leaves(): raise SystemExit(3)
def text(): return "network"
def grey(): return nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
def flat(): return nn.Sequential(nn.Flatten(0), nn.Linear(3 * 32 * 32 * 2, 2))
def picky(): return nn.Sequential(nn.Flatten(), nn.Linear(48, 2))

class Pair(Net):
    def forward(self, x):
        return super().forward(x), self.body(x)

class Named(Net):
    def forward(self, x):
        return {{"logits": super().forward(x), "loss": None}}

class Lost(Net):
    def forward(self, x):
        return {{"loss": 1}}
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "sibling.py").write_text("WIDTH = 4\n")
    path = tmp_path / "own_net.py"
    path.write_text(CODE.format(mark=str(tmp_path / "ran")))
    return path


def test_own_code_is_said_before_it_is_run(code: Path) -> None:
    said = list[str]()
    mark = code.with_name("ran")
    progress = Progress(note=lambda text: said.append(f"{text} {mark.exists()}"))
    found = loaded(f"code:{code}:make", progress=progress)
    note = f"Runs make of {code}: code of your own, with your rights."
    assert said == [f"{note} False"]
    assert mark.exists()
    assert found.notes[0] == note
    assert (found.classes, found.transform) == (2, Transform(32))


def test_own_code_that_may_not_be_run_is_not_even_imported(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOTS, json.dumps([str(code.parent)]))
    with pytest.raises(ModelError, match="Start it with --allow-code"):
        loaded(f"code:{code}:make", permissions=Permissions.from_environment())
    model_digest(parse_model(f"code:{code}:make"))
    absolute_model(f"code:{code}:make")
    assert not code.with_name("ran").exists()


def test_own_code_takes_weights_like_any_other(code: Path, tmp_path: Path) -> None:
    first = loaded(f"code:{code}:make").network
    state = {f"module.{name}": value + 1 for name, value in first.state_dict().items()}
    found = loaded(f"code:{code}:make@{saved(tmp_path / 'w.pt', {'state_dict': state})}")
    assert all(torch.equal(found.network.state_dict()[name], value + 1) for name, value in first.state_dict().items())


def test_weights_that_do_not_fit_own_code_say_what_differs(code: Path, tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", {"head.weight": torch.ones(2, 4)})
    with pytest.raises(ModelError, match=r"w.pt does not fit make. Missing in the file: body.0.weight.* Name the ca"):
        loaded(f"code:{code}:make@{path}")


def test_own_code_that_asks_for_the_class_count_gets_the_datas(code: Path) -> None:
    assert loaded(f"code:{code}:sized", classes=("a", "b", "c")).classes == 3


def test_a_module_of_a_package_finds_its_own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some" / "gradsift_test_package" / "nets"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package.parent / "width.py").write_text("WIDTH = 4\n")
    (package / "small.py").write_text(
        "from torch import nn\nfrom ..width import WIDTH\n"
        "def make(): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, WIDTH))\n"
    )
    assert loaded(f"code:{package / 'small.py'}:make").classes == 4
    monkeypatch.chdir(tmp_path / "some")
    assert loaded("code:gradsift_test_package.nets.small:make").classes == 4


def test_the_import_path_is_left_as_it_was(code: Path) -> None:
    import sys

    before = list(sys.path)
    loaded(f"code:{code}:make")
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", r"has no callable missing. It has: .*make"),
        ("two", r"two of code:.* asks for width"),
        ("fails", r"fails of code:.* failed: ValueError: no luck. It is your own"),
        ("leaves", r"leaves of code:.* failed: SystemExit: 3"),
        ("text", r"returned a str; it has to return a torch.nn.Module"),
        ("flat", r"returns \(2,\) for 2 images, not a row for each"),
        ("picky", r"fails on images of 224 × 224 pixels, 3 channels \(RuntimeError: .*Set --transform"),
        ("Lost", r"returns a dict without logits"),
    ],
)
def test_own_code_that_gives_no_network_says_why(name: str, said: str, code: Path) -> None:
    with pytest.raises(ModelError, match=said):
        loaded(f"code:{code}:{name}", transform="resize=32" if name == "flat" else None)


def test_code_that_does_not_load_says_why(tmp_path: Path) -> None:
    path = tmp_path / "broken_net.py"
    path.write_text("import gradsift_nowhere\n")
    with pytest.raises(ModelError, match=r"does not load: ModuleNotFoundError: No module named 'gradsift_nowhere'"):
        loaded(f"code:{path}:make")
    with pytest.raises(ModelError, match=r"There is no file .*none.py"):
        loaded(f"code:{tmp_path}/none.py:make")


@pytest.mark.parametrize("name", ["Pair", "Named"])
def test_logits_are_taken_out_of_several_outputs(name: str, code: Path) -> None:
    found = loaded(f"code:{code}:{name}")
    assert found.classes == 2
    assert found.network(torch.randn(3, 3, 32, 32)).shape == (3, 2)
    copy.deepcopy(found.network)


def test_a_network_for_grey_images_gets_grey_images(code: Path) -> None:
    found = loaded(f"code:{code}:grey")
    assert found.transform.channels == 1
    assert "mean=0.449," in str(found.transform)


def test_the_digest_is_of_the_content_and_not_of_the_place(tmp_path: Path, code: Path) -> None:
    one, other = (saved(tmp_path / name, {"a": torch.ones(2)}) for name in ("one.pt", "other.pt"))
    other.write_bytes(one.read_bytes())
    digest = model_digest(ModelSpec("torchvision", "resnet18", str(one)))
    assert digest == model_digest(ModelSpec("torchvision", "resnet18", str(other)))
    assert digest != model_digest(ModelSpec("torchvision", "resnet34", str(one)))
    saved(one, {"a": torch.zeros(2)})
    assert digest != model_digest(ModelSpec("torchvision", "resnet18", str(one)))
    before = model_digest(parse_model(f"code:{code}:make"))
    code.with_name("sibling.py").write_text("WIDTH = 5\n")
    assert model_digest(parse_model(f"code:{code}:make")) != before
    assert model_digest(parse_model("reference")) != model_digest(parse_model("recorded"))
    (tmp_path / "dynamics").mkdir()
    (tmp_path / "dynamics" / "dynamics_epoch_0.jsonl").write_text("{}")
    folder = model_digest(parse_model(f"dynamics:{tmp_path}/dynamics"))
    (tmp_path / "dynamics" / "dynamics_epoch_1.jsonl").write_text("{}")
    assert model_digest(parse_model(f"dynamics:{tmp_path}/dynamics")) != folder
    with pytest.raises(ModelError, match="none.pt cannot be read: no such file"):
        model_digest(parse_model("torchvision:resnet18@none.pt"))


def test_without_timm_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r"timm is not installed. Install the extra: pip install 'gradsift\[models\]'"):
        loaded("timm:resnet18@w.pt")


def test_a_timm_network_comes_back_with_its_weights(tmp_path: Path, hub: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm, an extra, is not installed")
    original = timm.create_model("resnet18", pretrained=False, num_classes=2).eval()
    path = saved(tmp_path / "w.pt", {"state_dict": original.state_dict(), "args": None})
    for name in ("resnet18", "resnet18.a1_in1k"):
        found = loaded(f"timm:{name}@{path}")
        assert same_answers(found.network, original)
        assert found.classes == 2
    large = loaded(f"timm:resnet18.a1_in1k@{path}", side=300)
    assert (large.transform.crop, large.transform.interpolation) == (224, "bicubic")
    with pytest.raises(ModelError, match=r"timm has no weights called 'resnet18.none'"):
        loaded(f"timm:resnet18.none@{path}")
    with pytest.raises(ModelError, match="timm has no architecture 'resnet19'. Did you mean"):
        loaded(f"timm:resnet19@{path}")


def test_timms_default_weights_say_what_to_fetch(hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm, an extra, is not installed")
    with pytest.raises(
        ModelError, match=r"Fetch https://.*resnet18.a1_in1k/resolve/main/model.safetensors and put it into"
    ):
        loaded("timm:resnet18.a1_in1k@DEFAULT")
