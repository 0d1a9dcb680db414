import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from core.errors import SettingsError
from core.models.transform import INTERPOLATIONS, Transform, at_own_size, for_classifier, for_timm

TEXT = "resize=256,crop=224,mean=0.485/0.456/0.406,std=0.229/0.224/0.225,interpolation=bilinear"
numbers = st.floats(-2, 2, allow_nan=False)
deviations = st.floats(1e-3, 4)


def encoded(width: int, height: int, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng([width, height]).integers(0, 256, (height, width, 3)).astype(np.uint8)
    target = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(target, format="PNG")
    return target.getvalue()


def tensor(transform: Transform, data: bytes) -> torch.Tensor:
    return transform.normalise(torch.tensor(transform.pixels(data))[None])[0]


def test_the_text_form_is_the_one_in_the_documentation() -> None:
    assert str(Transform(256, 224)) == TEXT
    assert Transform.parse(TEXT) == Transform(256, 224)
    assert str(Transform(32, mean=(0.5,), std=(0.25,))) == "resize=32,mean=0.5,std=0.25,interpolation=bilinear"


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 2048), st.none() | st.integers(1, 2048), st.sampled_from(list(INTERPOLATIONS)),
    st.tuples(numbers, numbers, numbers) | st.tuples(numbers), st.data(),
)  # fmt: skip
def test_text_and_transform_are_each_others_inverse(resize, crop, interpolation, mean, data) -> None:
    std = data.draw(st.tuples(*[deviations] * len(mean)))
    transform = Transform(resize, crop, mean, std, interpolation)
    assert Transform.parse(str(transform)) == transform


def test_what_the_text_leaves_out_is_as_in_the_base() -> None:
    base = Transform(256, 224, interpolation="bicubic")
    assert Transform.parse("resize=32", base) == Transform(32, None, interpolation="bicubic")
    assert Transform.parse("crop=200", base) == Transform(256, 200, interpolation="bicubic")
    assert Transform.parse("interpolation=nearest , resize=40,crop=32", base) == Transform(
        40, 32, interpolation="nearest"
    )


def test_one_mean_beside_three_deviations_stands_for_each_channel() -> None:
    assert Transform.parse("resize=9,mean=0.5,std=1/2/3") == Transform(9, None, (0.5,) * 3, (1.0, 2.0, 3.0))
    assert Transform.parse("mean=0.5", Transform(9)).mean == (0.5, 0.5, 0.5)
    assert Transform.parse("std=1/2/3", Transform(9, None, (0.5,), (0.2,))).mean == (0.5, 0.5, 0.5)
    assert Transform.parse("resize=9,mean=0.5,std=0.2").channels == 1
    assert Transform(9, None, (0.5,), (0.2,)).in_colour() == Transform(9, None, (0.5,) * 3, (0.2,) * 3)
    assert Transform(9).in_colour() == Transform(9)


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "resize": "The transform holds 'resize'. Write it like this: resize=256",
        "size=3": "holds 'size=3'",
        "resize=2,resize=3": "holds 'resize=3'",
        "resize=big": "resize of the transform is 'big', which is no number",
        "resize=0": "resize of the transform is 0; give 1 to 2048 pixels",
        "resize=9,crop=4000": "crop of the transform is 4000",
        "crop=9": "has no resize",
        "": "has no resize",
        "resize=9,mean=1/2,std=1/2": "2 means and 2 deviations; give three of each, for example mean=0.5/0.5/0.5,",
        "resize=9,mean=1/2": "2 means and 3 deviations",
        "resize=9,std=1/0/1": "deviations above 0",
        "resize=9,mean=nan/0/0": "must be finite",
        "resize=9,interpolation=best": "choose one of nearest, bilinear, bicubic, lanczos",
    }.items(),
)
def test_a_text_that_is_no_transform_is_refused(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Transform.parse(text)
    assert said in str(refused.value)


@pytest.mark.parametrize("size", [(32, 32), (300, 200), (200, 301), (224, 224), (31, 47), (640, 100)])
@pytest.mark.parametrize(
    "weights", ["ResNet18_Weights", "ResNet50_Weights", "EfficientNet_B0_Weights", "Swin_T_Weights"]
)
def test_it_equals_torchvisions_own_preset(weights: str, size: tuple[int, int]) -> None:
    from torchvision import models

    preset, data = getattr(models, weights).DEFAULT.transforms(), encoded(*size)
    expected = preset(Image.open(io.BytesIO(data)))
    torch.testing.assert_close(tensor(for_classifier(preset), data), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("resize", "crop"), [(20, 32), (32, 32), (33, 32), (20, 21), (40, 15)])
def test_crops_equal_torchvisions_to_the_pixel(resize: int, crop: int) -> None:
    from torchvision.transforms import v2

    slow = v2.Compose([v2.Resize(resize), v2.CenterCrop(crop)])
    for size in ((30, 45), (45, 30), (32, 32)):
        data = encoded(*size)
        np.testing.assert_array_equal(
            Transform(resize, crop).pixels(data), np.asarray(slow(Image.open(io.BytesIO(data))))
        )


def test_images_at_their_own_size_are_not_touched() -> None:
    data = encoded(32, 32)
    own = at_own_size(Transform(256, 224), 32)
    assert (own.side, own.crop) == (32, None)
    np.testing.assert_array_equal(own.pixels(data), np.asarray(Image.open(io.BytesIO(data))))
    assert own.pixels(encoded(30, 50)).shape == (32, 32, 3)


def test_one_mean_makes_the_image_grey() -> None:
    transform, data = Transform(8, None, (0.5,), (0.25,)), encoded(8, 8)
    grey = np.asarray(Image.open(io.BytesIO(data)).convert("L"))[None] / 255
    assert (transform.channels, transform.pixels(data).shape) == (1, (8, 8, 1))
    np.testing.assert_allclose(tensor(transform, data), (grey - 0.5) / 0.25, atol=1e-6)


def test_a_batch_lies_channels_last_in_memory() -> None:
    batch = Transform(8).normalise(torch.zeros(4, 8, 8, 3, dtype=torch.uint8))
    assert batch.shape == (4, 3, 8, 8)
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_a_strip_does_not_grow_beyond_the_memory() -> None:
    assert Transform(256, 224).pixels(encoded(20_000, 1)).shape == (224, 224, 3)


def test_timms_configuration_is_read() -> None:
    config = {"input_size": (3, 224, 224), "crop_pct": 0.95, "crop_mode": "center", "interpolation": "bicubic",
              "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # fmt: skip
    assert for_timm(config) == Transform(235, 224, (0.5,) * 3, (0.5,) * 3, "bicubic")
    assert for_timm({**config, "crop_mode": "squash"}) == Transform(224, None, (0.5,) * 3, (0.5,) * 3, "bicubic")
