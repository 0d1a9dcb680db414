"""Shapes and types of every call into `core` are checked while the tests run; no property fails for being slow."""

import os

from hypothesis import settings
from jaxtyping import install_import_hook

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: threads of theirs would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
install_import_hook("core", "beartype.beartype")
settings.register_profile("untimed", deadline=None)  # a busy machine is no error
settings.load_profile("untimed")
