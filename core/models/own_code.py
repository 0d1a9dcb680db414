"""A network that a person's own code makes: the one place where such code is run, and said so before.

`code:FILE.py:CALLABLE` or `code:MODULE:CALLABLE`. The callable is called without arguments, or with the data's class
count where it asks for `num_classes` (or `n_classes`, `classes`) and has no default for it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from core.errors import ModelError
from core.models.specs import ModelSpec, Permissions, module_file
from core.progress import Progress

ENVIRONMENTS = ("node_modules", "site-packages", "venv", "env", "__pycache__")
MOST_FILES = 2_000
COUNT_NAMES = ("num_classes", "n_classes", "classes")


def network_from_code(
    spec: ModelSpec, classes: int, permissions: Permissions, progress: Progress
) -> tuple[nn.Module, str]:
    """Run a person's callable; return its network and the sentence that was said before.

    Raises:
        ModelError: it may not be run, is not there, fails, or returns no network.
    """
    permissions.check(spec)
    module_name, name = spec.callable
    file = module_file(module_name)
    if file is None and module_name.endswith(".py"):
        raise ModelError(f"There is no file {module_name} (of {spec}). Check the path.")
    note = f"Runs {name} of {file or module_name}: code of your own, with your rights."
    progress.note(note)
    root = Path.cwd() if file is None or not module_name.endswith(".py") else _package_root(file)
    with _importable(root), _fresh(root):  # the callable may import too
        make = _attribute(_module(module_name, file, root, spec), name, spec)
        network = _called(make, classes, spec)
    if not isinstance(network, nn.Module):
        raise ModelError(f"{name} of {spec} returned a {type(network).__name__}; it has to return a torch.nn.Module.")
    return network, note


def code_digest(spec: ModelSpec) -> str:
    """Return the SHA-256 (hex) of the Python files that a spec's code is made of, as far as that is known unrun.

    That is the module's file and all Python files beside and below it; for a module of a package all of the package.
    Files that the code opens by itself, weights among them, are not known.
    """
    state = hashlib.sha256()
    file = module_file(spec.callable[0])
    if file is None:
        return state.hexdigest()
    root = _package_root(file)
    top = file.parent if root == file.parent else root / file.relative_to(root).parts[0]
    for path in _python_files(top):
        state.update(str(path.relative_to(root)).encode("utf-8", "surrogatepass") + b"\0")
        state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()


def _python_files(folder: Path) -> list[Path]:
    """Return the Python files of a folder and those below it, but for hidden folders and environments."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in ENVIRONMENTS]
        found += [Path(place, name) for name in names if name.endswith(".py")]
        if len(found) > MOST_FILES:
            break
    return sorted(path for path in found if path.is_file())[:MOST_FILES]


def _package_root(file: Path) -> Path:
    """Return the folder that a file's topmost package lies in."""
    folder = file.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _module(name: str, file: Path | None, root: Path, spec: ModelSpec) -> ModuleType:
    try:
        if file is not None and name.endswith(".py"):
            return _module_of(file, root)
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ModelError(f"The code of {spec} does not load: {_said(error)}. It is your own; mend it there.") from error


@contextmanager
def _fresh(root: Path) -> Iterator[None]:
    """Import modules below `root` anew, as their files are now; afterwards the process has those that it had."""
    before = {name: sys.modules.pop(name) for name in _modules_in(root)}
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for name in _modules_in(root):
            del sys.modules[name]
        sys.modules.update(before)


def _modules_in(root: Path) -> list[str]:
    """Return the names of the loaded modules that lie below a folder, but for those of environments and our own."""
    ours, found = Path(__file__).parents[1], []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
        if not isinstance(file, str) or not Path(file).is_relative_to(root) or Path(file).is_relative_to(ours):
            continue
        parts = Path(file).relative_to(root).parts
        if not any(part.startswith(".") or part in ENVIRONMENTS for part in parts):
            found.append(name)
    return found


def _module_of(file: Path, root: Path) -> ModuleType:
    """Import a file: inside a package under its full name, alone under a name that meets no other module's."""
    if file.parent != root:
        module = importlib.import_module(".".join(file.relative_to(root).with_suffix("").parts))
        if Path(module.__file__ or "") != file:
            raise ImportError(f"another module called {module.__name__} is loaded already ({module.__file__})")
        return module
    name = f"gradsift_code_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses look themselves up there
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let imports find what lies in a folder, inside the block."""
    before = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = before


def _attribute(module: ModuleType, name: str, spec: ModelSpec) -> Callable[..., Any]:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ModelError(f"{spec.callable[0]} has no callable {name}. It has: {', '.join(there[:8]) or 'none'}.")
    return found  # type: ignore[no-any-return]


def _called(make: Callable[..., Any], classes: int, spec: ModelSpec) -> object:
    try:
        asked = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # some callables cannot say
        asked = ()  # type: ignore[assignment]
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [each.name for each in asked if each.default is each.empty and each.kind not in variable]
    if others := [name for name in needed if name not in COUNT_NAMES]:
        raise ModelError(
            f"{spec.callable[1]} of {spec} asks for {', '.join(others)}. "
            "Give a callable without arguments, or with num_classes alone."
        )
    try:
        return make(*[classes] * len(needed))
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{spec.callable[1]} of {spec} failed: {_said(error)}. It is your own; mend it there."
        ) from error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
