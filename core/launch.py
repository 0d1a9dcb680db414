"""The `gradsift` command's first step, installed as the module `gradsift`: find our `core`, or say whose was found.

`core` is a common name. Where another package of that name comes first on the path, an import error deep inside it
would help nobody, so this module looks before it leaps. It is the only file that is installed outside `core`.
"""

import importlib
import sys


def main() -> int:
    """Run the command line and return its exit status (1 where `core` is somebody else's package)."""
    try:
        core = importlib.import_module("core")
    except ModuleNotFoundError as error:
        print(f"gradsift: its package `core` is not whole ({error}). Install gradsift again.", file=sys.stderr)
        return 1
    except Exception as error:  # whatever a foreign package raises while it is imported
        print(
            f"gradsift: a package named `core` was found and cannot be imported ({type(error).__name__}: {error}). "
            "Take it off PYTHONPATH, or install gradsift again in an environment of its own.",
            file=sys.stderr,
        )
        return 1
    if not hasattr(core, "__gradsift__"):
        where = getattr(core, "__file__", None) or ", ".join(map(str, getattr(core, "__path__", ["an unknown place"])))
        print(
            f"gradsift: the name `core` leads to another package, {where}. "
            "Take it off PYTHONPATH, or install gradsift in an environment of its own.",
            file=sys.stderr,
        )
        return 1
    try:
        status: int = importlib.import_module("core.cli").main()
    except KeyboardInterrupt:  # while modules were still being imported
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
