"""Which stages a run consists of, and the key of each: worked out without computing anything.

    pixels      every image decoded to one size                        (images, size)
    features    a training here: its record, its last layer's factors  (pixels, labels, training settings)
    network     a finished network, or files with what it said         (weights, images, transform)
    series      a history made of saved checkpoints                    (weights, images, labels)
    backbone    features of a pretrained network                       (weights, images, transform)
    grand       gradient norms over all parameters                     (weights, pixels, labels)
    neighbours  nearest training images in both spaces                 (all factors and features)
    scores      the table of evidence
    map         two UMAPs

A run takes those it needs: the reference network alone needs no `network`, a file of features needs no `pixels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from core.data.manifest import VAL, Manifest
from core.data.pixels import image_digest, image_side, median_side
from core.errors import InputError, SettingsError
from core.models.load import model_digest
from core.models.specs import TRAINED_HERE, ModelSpec, parse_model
from core.models.train import kept_epochs, planned_epochs
from core.project import Project, stage_key
from core.settings import SiftSettings

VERSIONS = {
    "pixels": 1, "features": 1, "network": 2, "series": 2, "backbone": 1, "grand": 1, "neighbours": 1, "scores": 4,
    "map": 1,
}  # fmt: skip
TRAINING_SETTINGS = (
    "seed", "epochs", "batch_size", "learning_rate", "weight_decay", "augment", "device", "precision",
)  # fmt: skip
OF_FILES = ("features", "dynamics", "recorded")  # what a network said elsewhere: no image is run through it here
WITH_HISTORY = ("dynamics", "recorded")


class Kept(NamedTuple):
    """What `Recorder(project)` left in a project: a digest, and whether inputs of the last layer are there."""

    digest: str = ""
    inputs: bool = False


@dataclass(frozen=True)
class Plan:
    """The keys of a run's stages, in their order: what would be computed, and what is there already.

    Attributes:
        side: pixels at which a training here sees the images.
        epochs: of that training.
        keys: stage name to key.
        model: the person's model, `backbone` the pretrained one.
        seeds: where the run has several seeds, the plan of each, the first among them, without a map.
    """

    side: int
    epochs: int
    keys: Mapping[str, str]
    model: ModelSpec
    backbone: ModelSpec | None = None
    seeds: tuple[Plan, ...] = ()

    @property
    def trains(self) -> bool:
        """Whether a network is trained here."""
        return "features" in self.keys


def plan(manifest: Manifest, settings: SiftSettings, model: str = "reference", kept: Kept = Kept()) -> Plan:  # noqa: B008 (frozen)
    """Work out which stages a run consists of.

    Raises:
        ModelError: the model is unknown, or its file is not there.
        InputError: the rows have no images and the model needs them.
        SettingsError: the settings do not go together.
    """
    spec = parse_model(model)
    backbone = parse_model(settings.backbone) if settings.backbone else None
    _check(manifest, settings, spec, backbone, kept)
    side = (settings.image_size or image_side(manifest)) if manifest.has_images else 0
    epochs = planned_epochs(settings, int(manifest.train.sum()))
    keys = _keys(_Inputs(manifest, settings, spec, backbone, kept, side, epochs))
    alone = Plan(side, epochs, keys, spec, backbone)
    if settings.models == 1:
        return alone
    seeds = [replace(settings, models=1, seed=settings.seed + other) for other in range(settings.models)]
    others = tuple(plan(manifest, replace(each, maps=False), model, kept) for each in seeds[1:])
    mean = stage_key(
        "scores", VERSIONS["scores"], {"seeds": [keys["scores"], *(each.keys["scores"] for each in others)]}
    )
    return replace(alone, keys={**keys, "scores": mean}, seeds=(replace(alone, keys=_without(keys, "map")), *others))


def plan_of(project: Project) -> Plan:
    """The plan of a project's run, as it is configured."""
    return plan(project.manifest(), project.config.settings, project.config.model, kept_in(project))


def kept_in(project: Project) -> Kept:
    """What the project's own recorder left there."""
    from core.models.recorder import kept

    return Kept(*kept(project))


def trains_here(settings: SiftSettings, spec: ModelSpec, kept: Kept, images: bool) -> bool:
    """Whether a network is trained here: the model itself, or the reference network beside it.

    A finished network lacks a history, unless its checkpoints were saved; a history from elsewhere lacks features.
    """
    if spec.kind in TRAINED_HERE:
        return True
    features = bool(settings.backbone) or (spec.kind == "recorded" and kept.inputs)
    complete = bool(settings.checkpoints) or (spec.kind in WITH_HISTORY and features)
    return settings.reference and images and not complete


class _Inputs(NamedTuple):
    manifest: Manifest
    settings: SiftSettings
    spec: ModelSpec
    backbone: ModelSpec | None
    kept: Kept
    side: int
    epochs: int


def _keys(given: _Inputs) -> dict[str, str]:
    manifest, settings, spec = given.manifest, given.settings, given.spec
    keys: dict[str, str] = {}

    def add(stage: str, inputs: Mapping[str, Any]) -> str:
        keys[stage] = stage_key(stage, VERSIONS[stage], inputs)
        return keys[stage]

    if spec.kind not in TRAINED_HERE:
        add("network", _passed(given, spec))
    if settings.checkpoints:
        digests = [model_digest(replace(spec, weights=file)) for file in settings.checkpoints]
        add("series", {"network": _passed(given, spec), "rows": manifest.digest(), "checkpoints": digests})
    if given.backbone:
        add("backbone", _passed(given, given.backbone))
    if trains_here(settings, spec, given.kept, manifest.has_images):
        pixels = add("pixels", {"images": image_digest(manifest), "side": given.side})
        add("features", {"pixels": pixels, "rows": manifest.digest(), **_training(given), **_judged(manifest)})
    seen = {"evidence": sorted(keys.values()), "rows": manifest.digest()}
    grand = [add("grand", {**seen, "epochs": list(settings.grand)})] if settings.grand else []
    neighbours = add("neighbours", {**seen, "k": settings.neighbours})
    add("scores", {"neighbours": neighbours, "trees": settings.trees, "seed": settings.seed, "grand": grand,
                   **_judged(manifest)})  # fmt: skip
    if settings.maps:
        add("map", {"neighbours": neighbours, "seed": settings.seed})
    return keys


def _judged(manifest: Manifest) -> dict[str, str]:
    """Which held-out rows choices are made by, where they are not all: a version before this knew only all."""
    return {} if (manifest.judging == ~manifest.train).all() else {"judged_by": VAL}


def flips(manifest: Manifest, settings: SiftSettings) -> bool:
    """Whether a training here sees mirror images."""
    return settings.augment and (manifest.source.flip if settings.flip is None else settings.flip)


def _training(given: _Inputs) -> dict[str, Any]:
    chosen = given.settings.as_dict()
    told = {name: chosen[name] for name in TRAINING_SETTINGS}
    own: dict[str, Any] = {}
    if given.spec.kind == "train":
        own = {name: chosen[name] for name in ("transform", "layer")}
        own |= {"transform_form": 2} if chosen["transform"] else {}  # parts that are not named keep their own value
        own |= {"network": given.spec.name, "weights": model_digest(given.spec)}
    return {"flip": flips(given.manifest, given.settings), **told, "epochs": given.epochs, **own}


def _passed(given: _Inputs, spec: ModelSpec) -> dict[str, Any]:
    """What a pass over the images, or a file of what a network said, is made of."""
    manifest, settings = given.manifest, given.settings
    if spec.kind in OF_FILES:
        said = given.kept.digest if spec.kind == "recorded" else model_digest(spec)
        return {"kind": spec.kind, "said": said, "rows": manifest.digest()}
    own = {"layer": settings.layer, "transform": settings.transform} if spec is given.spec else {}
    return {
        "images": image_digest(manifest), "side": median_side(manifest), "model": spec.kind, "name": spec.name,
        "weights": model_digest(spec), **own,
    }  # fmt: skip


def _check(manifest: Manifest, settings: SiftSettings, spec: ModelSpec, backbone: ModelSpec | None, kept: Kept) -> None:
    if not manifest.has_images and (spec.kind not in OF_FILES or (backbone and backbone.kind != "features")):
        asked = spec if spec.kind not in OF_FILES else backbone
        raise InputError(
            f"The rows have no images, and {asked} needs them. "
            "Give features:FILE.npz or dynamics:FILE as the model, or a source with images."
        )
    if settings.checkpoints and (spec.kind in TRAINED_HERE or spec.kind in OF_FILES):
        raise SettingsError(f"Checkpoints are weights of a network; with {spec} there is none. Name it by --model, or "
                            "take them out: --checkpoints auto.")  # fmt: skip
    _check_grand(manifest, settings, spec)
    if backbone and (backbone.kind in TRAINED_HERE or backbone.kind in WITH_HISTORY):
        raise SettingsError(f"{backbone} is no backbone: it gives no features before a training. Name a network.")
    if spec.kind == "recorded" and not kept.digest:
        raise InputError("Nothing was recorded in this project. Log a training with core.Recorder(project) first.")


def _check_grand(manifest: Manifest, settings: SiftSettings, spec: ModelSpec) -> None:
    """Refuse epochs of which no weights are kept, and what is no network, before anything is computed."""
    here = spec.kind in TRAINED_HERE
    kept = kept_epochs(planned_epochs(settings, int(manifest.train.sum()))) if here else []
    for when in settings.grand:
        if spec.kind in OF_FILES:
            raise SettingsError(f"GraNd needs a network; {spec} is what one said. Leave it out: --grand auto.")
        if when != "last" and not here:
            raise SettingsError(f"GraNd was asked for after epoch {when}; {spec} has one state. Ask for: last.")
        if when != "last" and int(when) not in kept:
            raise SettingsError(
                f"GraNd was asked for after epoch {when}; weights are kept of epochs {', '.join(map(str, kept))}. "
                "Choose among them."
            )


def _without(keys: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in keys.items() if key != name}
