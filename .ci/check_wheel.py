"""Check what a wheel holds: `python .ci/check_wheel.py dist/gradsift-0.1.0-py3-none-any.whl`.

It must hold every file of `core`, the launcher (`core/launch.py`, installed as `gradsift.py`), the app (`app.py`,
`pages`, its settings and icon, in `gradsift_app`) and the licence, and nothing else that would land beside other
people's packages.
"""

import sys
import zipfile
from pathlib import Path

KINDS = ("*.py", "*.js", "*.css", "*.html")


def problems(names: set[str], root: Path) -> list[str]:
    """Return what is missing from the wheel and what does not belong there."""
    expected = {path.relative_to(root).as_posix() for kind in KINDS for path in (root / "core").rglob(kind)}
    expected = expected - {"core/launch.py"} | {"gradsift.py"}
    app = [path for kind in KINDS for path in (root / "pages").rglob(kind)]
    app += [root / name for name in ("app.py", ".streamlit/config.toml", "assets/icon.png")]
    expected |= {f"gradsift_app/{path.relative_to(root).as_posix()}" for path in app}
    modules = {name for name in names if ".dist-info/" not in name}
    missing = [f"missing: {name}" for name in sorted(expected - modules)]
    stray = [f"does not belong there: {name}" for name in sorted(modules - expected) if name != "core/README.md"]
    licence = [] if any(name.endswith("licenses/LICENSE") for name in names) else ["missing: the licence"]
    return missing + stray + licence


def main() -> None:
    """Exit with the list of problems, or with 0."""
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        found = problems(set(wheel.namelist()), Path(__file__).resolve().parents[1])
        entries = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        if "gradsift = gradsift:main" not in wheel.read(entries).decode():
            found.append("missing: the command gradsift")
    sys.exit("\n".join(found) or 0)


if __name__ == "__main__":
    main()
