"""The house as its import arrows draw it: which room of `core` may import which, and what an import may load.

A room is a folder or a file of `core`. `ARROWS` is the whole list of what is allowed; a new arrow fails here and is
either a mistake or a decision, to be written down in this table and in `core/README.md`.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import core

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core"

FLOOR = {"errors", "axes", "progress", "shortage", "settings", "chance", "catalogue"}
ARROWS: dict[str, set[str]] = {
    # the floor
    "errors": set(),
    "axes": set(),
    "progress": {"errors"},
    "shortage": {"errors"},
    "settings": {"errors"},
    "chance": {"axes"},
    "catalogue": set(),
    "reasons": set(),
    # the measuring half, lower first
    "data": {"errors", "axes", "progress", "chance"},
    "gradients": {"errors", "axes"},
    "models": {"errors", "axes", "progress", "settings", "chance", "data"},
    "scores": {
        "errors", "axes", "progress", "settings", "catalogue", "data", "gradients", "models", "findings", "reasons",
    },
    "atlas": {"errors", "axes", "progress", "gradients", "findings"},
    "pipeline": {
        "core", "errors", "axes", "progress", "settings", "data", "gradients", "models", "scores", "atlas", "findings",
        "project",
    },
    "estimate": {"errors", "progress", "settings", "data", "models", "pipeline", "project"},
    # where the halves meet
    "findings": {"errors", "axes"},
    "project": {"errors", "shortage", "settings", "data", "findings"},
    # did it help? `verify` reads and judges, without torch; `retrain` runs
    "verify": {"errors", "axes", "review"},
    "retrain": {
        "core", "errors", "axes", "progress", "settings", "chance", "data", "gradients", "models", "scores", "pipeline",
        "findings", "project", "review", "verify",
    },
    # the deciding half: no torch
    "review": {"errors", "axes", "catalogue", "reasons", "findings"},
    "export": {"core", "errors", "review", "verify"},
    # what a screen asks for: no torch
    "roots": {"errors", "data"},
    "library": {"errors", "data", "project", "roots"},
    "pictures": {"errors", "axes", "data", "project", "roots"},
    "preview": {"errors", "chance", "data", "models", "roots", "pictures"},
    "extras": {"axes", "errors", "progress", "data", "findings", "project"},
    "toys": {"errors", "axes", "gradients", "scores"},
    "lesson": {"errors", "axes", "gradients", "findings", "review"},
    "jobs": {"core", "errors", "shortage", "progress", "project", "terminal"},
    "serve": {"core", "errors", "progress", "data"},
    # the way in
    "terminal": {"progress"},
    "commands": {
        "errors", "progress", "settings", "data", "findings", "project", "review", "export", "models", "pipeline",
        "estimate", "extras", "jobs", "terminal",
    },
    "looking": {"progress", "project", "review", "extras", "terminal", "commands"},
    "proving": {"errors", "progress", "project", "retrain", "verify", "jobs", "terminal", "commands"},
    "opening": {
        "errors", "progress", "data", "findings", "project", "review", "jobs", "serve", "terminal", "commands",
    },
    "cli": {
        "core", "errors", "shortage", "progress", "data", "models", "project", "terminal", "serve", "commands",
        "looking", "opening", "proving", "retrain",
    },
    "launch": set(),  # it has to run where `core` is somebody else's
    "core": set(),  # core/__init__.py: names, loaded on first use
}  # fmt: skip

LIGHT = ["core", "core.review.decisions", "core.review.present", "core.export.manifest", "core.findings",
         "core.project", "core.cli", "core.review.inbox", "core.review.gallery", "core.review.detail",
         "core.review.points", "core.review.changes", "core.export.report", "core.pictures", "core.library",
         "core.preview", "core.jobs", "core.opening", "core.verify.shown", "core.export.proof", "core.lesson",
         "core.toys", "core.proving"]  # fmt: skip
HEAVY = {"torch", "torchvision", "umap", "numba", "sklearn", "streamlit", "plotly"}
PUBLIC = {
    "Project", "Manifest", "SiftSettings", "sift", "Findings", "LastLayerGradients", "GradientForest", "Review",
    "Recorder", "export_manifest",
}  # fmt: skip


def room_of(path: Path) -> str:
    name = path.relative_to(CORE).parts[0].removesuffix(".py")
    return "core" if name == "__init__" else name


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that the code imports, in functions too; what only a type checker sees is left out."""
    if isinstance(tree, ast.If) and ast.unparse(tree.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        for node in tree.orelse:
            yield from imports(node)
    elif isinstance(tree, ast.Import):
        yield from (alias.name for alias in tree.names)
    elif isinstance(tree, ast.ImportFrom):
        assert tree.level == 0, "imports are written out from `core`"
        yield from (f"{tree.module}.{alias.name}" for alias in tree.names)
    else:
        for node in ast.iter_child_nodes(tree):
            yield from imports(node)


def target_room(module: str) -> str:
    """The room that an import of `core…` leads to: `core.review.flags.rank` to review, `core.__version__` to core."""
    name = module.split(".")[1] if "." in module else "core"
    return name if (CORE / name).is_dir() or (CORE / f"{name}.py").is_file() else "core"


@cache
def drawn() -> dict[str, set[str]]:
    """The arrows as the source draws them."""
    arrows: dict[str, set[str]] = {}
    for path in sorted(CORE.rglob("*.py")):
        to = {target_room(m) for m in imports(ast.parse(path.read_text("utf-8"))) if m.split(".")[0] == "core"}
        arrows.setdefault(room_of(path), set()).update(to - {room_of(path)})
    return arrows


def outside() -> dict[str, set[str]]:
    """Which other packages each file of `core` imports."""
    return {
        path.relative_to(ROOT).as_posix(): {m.split(".")[0] for m in imports(ast.parse(path.read_text("utf-8")))}
        for path in sorted(CORE.rglob("*.py"))
    }


def test_every_arrow_is_a_known_one() -> None:
    new = {(room, to) for room, rooms in drawn().items() for to in rooms if to not in ARROWS.get(room, set())}
    assert not new, "New import arrows. Take them out, or allow them in ARROWS and say why in core/README.md."


def test_no_arrow_of_the_table_is_gone() -> None:
    gone = {(room, to) for room, rooms in ARROWS.items() for to in rooms if to not in drawn().get(room, set())}
    assert not gone, "ARROWS allows what no file does any more. Take it out."
    assert set(drawn()) == set(ARROWS)


def test_the_arrows_have_no_circle() -> None:
    order = list(TopologicalSorter(ARROWS).static_order())
    assert order.index("errors") < order.index("pipeline") < order.index("cli")


def test_the_floor_stands_on_itself() -> None:
    assert all(ARROWS[room] <= FLOOR for room in FLOOR)


def test_the_deciding_half_knows_nothing_of_the_measuring_half() -> None:
    measuring = {"gradients", "models", "scores", "atlas", "pipeline", "estimate"}
    assert all(not ARROWS[room] & measuring for room in ("review", "export", "findings", "project"))


@pytest.mark.parametrize("package", ["streamlit", "plotly", "pages", "app", "tests"])
def test_core_knows_no_screen_and_no_test(package: str) -> None:
    assert [file for file, packages in outside().items() if package in packages] == []


def test_nothing_is_ever_unpickled() -> None:
    assert [file for file, packages in outside().items() if packages & {"pickle", "joblib", "dill"}] == []


def test_an_arrow_that_only_a_type_checker_sees_does_not_count() -> None:
    source = "if TYPE_CHECKING:\n    import a\nelse:\n    import b\ndef f():\n    from core.c import d, e"
    assert list(imports(ast.parse(source))) == ["b", "core.c.d", "core.c.e"]


def screens() -> dict[str, set[str]]:
    """What each file of the app imports of ours, by module."""
    files = [ROOT / "app.py", *sorted((ROOT / "pages").rglob("*.py"))]
    found = {}
    for path in files:
        modules = {
            m for m in imports(ast.parse(path.read_text("utf-8"))) if m.split(".")[0] in ("core", "pages", "app")
        }
        found[path.relative_to(ROOT).as_posix()] = modules
    return found


def test_the_screens_look_one_way() -> None:
    """`app.py` → `pages` → `pages/ui` → `core`: a page imports no other page, what pages share imports no page."""
    wrong = {
        (file, module)
        for file, modules in screens().items()
        for module in modules
        if module.split(".")[0] == "app" or (module.startswith("pages.") and not module.startswith("pages.ui"))
    }
    assert not wrong


def test_the_screens_import_nothing_that_computes() -> None:
    measuring = {"pipeline", "estimate", "models", "scores", "gradients", "atlas"}
    assert {
        (file, module)
        for file, modules in screens().items()
        for module in modules
        if module.startswith("core.") and target_room(module) in measuring
    } == set()
    names = sorted(f"pages.ui.{path.stem}" for path in (ROOT / "pages" / "ui").glob("*.py") if path.stem != "__init__")
    load = f"import importlib, json, sys\nfor name in {names!r}: importlib.import_module(name)"
    code = f"{load}\nprint(json.dumps(list(sys.modules)))"
    assert not (HEAVY - {"streamlit", "plotly"}) & set(json.loads(fresh(code)))


def test_what_is_outside_has_one_door() -> None:
    """The caches are named in one file, the session in one; a component also reads what its own browser part said."""

    def naming(sign: str) -> set[str]:
        files = (ROOT / "pages").rglob("*.py")
        return {path.relative_to(ROOT / "pages").as_posix() for path in files if sign in path.read_text("utf-8")}

    assert naming("st.cache_") == {"ui/cached.py"}
    components = {f"ui/{name}/__init__.py" for name in ("grid", "map_view", "stage")}
    assert naming("st.session_state") == {"ui/session.py"} | components


def fresh(code: str) -> str:
    """Run code in a fresh process and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", LIGHT)
def test_the_deciding_half_imports_without_torch(module: str) -> None:
    loaded = json.loads(fresh(f"import json, sys, {module}; print(json.dumps(list(sys.modules)))"))
    assert not HEAVY & set(loaded)


def test_public_names_can_be_imported() -> None:
    assert set(core.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(core, name).__name__ == name
    with pytest.raises(AttributeError, match="offers"):
        _ = core.nothing  # type: ignore[attr-defined]


def test_importing_leaves_no_trace() -> None:
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in CORE.rglob("*.py")
    )
    code = f"""
import importlib, logging, random, signal, warnings
import numpy, torch, numba, umap, sklearn.datasets
def state():
    numpy_state = numpy.random.get_state()
    return (logging.root.handlers[:], logging.root.level, random.getstate(), numpy_state[1].tolist(), numpy_state[2:],
            torch.get_rng_state().tolist(), torch.get_num_threads(), torch.get_default_dtype(), numba.get_num_threads(),
            torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled(),
            warnings.filters[:], signal.getsignal(signal.SIGINT), numpy.geterr())
state()  # asking numba for its threads starts them, which torch notices
before = state()
for name in {modules!r}:
    importlib.import_module(name)
after = state()
print([index for index, (a, b) in enumerate(zip(before, after)) if a != b])
"""
    assert fresh(code).strip() == "[]"
