"""Which files make up a data set of Hugging Face, of which split each is, and how one is fetched from the Hub.

What `save_to_disk` wrote says so itself; of Parquet files the names do. Nothing but data files is ever fetched: a
repository's own script is neither downloaded nor run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.data.sources.base import ROOTS, expanded, file_error, read_file
from core.errors import InputError

SPLIT_NAMES = {
    "train": "train", "training": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")  # a name on the Hub
WANTED = ("*.parquet", "*.json", "README.md")


@dataclass(frozen=True)
class Part:
    """One file of one split."""

    path: Path
    split: str | None

    @property
    def is_arrow(self) -> bool:
        """Whether it is an Arrow stream, as `save_to_disk` writes it, not Parquet."""
        return self.path.suffix == ".arrow"


def find_parts(folder: Path) -> tuple[Part, ...]:
    """Return the files of a data set in order, each with its split.

    Raises:
        InputError: the folder is no data set, or holds several.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = _json(folder / "dataset_dict.json").get("splits")
        names = [name for name in splits if isinstance(name, str)] if isinstance(splits, list) else []
        return tuple(part for name in names for part in _saved(_below(folder, name), name))
    if (folder / "state.json").is_file():
        state = _json(folder / "state.json").get("_split")
        return _saved(folder, state if isinstance(state, str) else None)
    files = sorted(path for path in folder.rglob("*.parquet") if not _is_hidden(path.relative_to(folder)))
    files = [path for path in files if Path(os.path.realpath(path)).is_file() and file_error(path) is None]
    if not files:
        raise InputError(
            f"{folder} holds neither what save_to_disk writes nor Parquet files. Load the data set once with "
            "`datasets`, call its save_to_disk(FOLDER), and give hf:FOLDER."
        )
    _refuse_several(folder, files)
    parts = [Part(path, _split_of(path.relative_to(folder))) for path in files]
    order = {name: at for at, name in enumerate(("train", "val", "test"))}
    return tuple(sorted(parts, key=lambda part: (order.get(part.split or "", 3), str(part.path))))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _below(folder: Path, name: str) -> Path:
    path = folder / name
    if not Path(os.path.realpath(path)).is_relative_to(Path(os.path.realpath(folder))):
        raise InputError(f"{folder} names the file {name!r}, which lies outside it. Copy the data set again.")
    return path


def _saved(folder: Path, split: str | None) -> tuple[Part, ...]:
    """Return the Arrow files of one split that `save_to_disk` wrote."""
    listed = _json(folder / "state.json").get("_data_files")
    files = [each.get("filename") for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    names = [name for name in files if isinstance(name, str)]
    if not names:
        raise InputError(f"{folder / 'state.json'} names no files. Save the data set again.")
    return tuple(Part(_below(folder, name), SPLIT_NAMES.get(split or "", split)) for name in names)


def _json(path: Path) -> Mapping[str, Any]:
    data = read_file(str(path))
    try:
        found = json.loads(data) if isinstance(data, bytes) else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{path} cannot be read{f': {data}' if isinstance(data, InputError) else ''}. Save it again.")
    return found


def _split_of(path: Path) -> str | None:
    """Return the split that a file's name begins with, or that a folder above it is called."""
    for text in (path.name, *reversed(path.parts[:-1])):
        word = re.split(r"[-_.]", text.lower(), maxsplit=1)[0]
        if word in SPLIT_NAMES:
            return SPLIT_NAMES[word]
    return None


def _refuse_several(folder: Path, files: Iterable[Path]) -> None:
    """Raise InputError where a repository keeps several data sets side by side, each in a folder with splits."""
    above = {path.relative_to(folder).parts[0] for path in files if len(path.relative_to(folder).parts) > 1}
    sets = sorted(name for name in above - {"data"} if name.lower() not in SPLIT_NAMES)
    if len(sets) > 1:
        raise InputError(
            f"{folder} holds several data sets: {', '.join(sets)}. Give one, for example {folder}/{sets[0]}."
        )


def fetch_hub(rest: str) -> None:
    """Download the Parquet files of a data set on the Hub into its own cache; a folder needs no download.

    Raises:
        InputError: the extra is not installed, or the download failed; the message says what to do instead.
    """
    if expanded(rest).exists():
        return
    if os.environ.get(ROOTS, ""):
        raise InputError(f"The app downloads nothing from the Hub. {advice(rest)}")
    try:
        from huggingface_hub import snapshot_download

        snapshot_download(rest, repo_type="dataset", allow_patterns=list(WANTED))
    except ImportError as error:
        raise InputError(f"Downloading needs the extra: pip install 'gradsift[hf]'. {advice(rest)}") from error
    except Exception as error:  # no network, no such name, no right to it
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{rest} cannot be downloaded: {first} {advice(rest)}") from error


def fetched(name: str) -> Path:
    """Return the folder into which a name of the Hub was downloaded. The Hub is not asked."""
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, repo_type="dataset", local_files_only=True))
    except Exception as error:  # not installed, or not downloaded
        raise InputError(f"{name} is no folder here, and was not downloaded from the Hub. {advice(name)}") from error


def advice(name: str) -> str:
    """Say how to get a data set of the Hub onto a machine without a network."""
    return (
        f"Add --download to fetch it, or, on a machine that can, run `hf download {name} --repo-type dataset "
        "--local-dir FOLDER`, copy FOLDER here, and give hf:FOLDER."
    )
