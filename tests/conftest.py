"""Shapes and types of every call into `core` are checked while the tests run; no property fails for being slow."""

from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook("core", "beartype.beartype")
settings.register_profile("untimed", deadline=None)  # a busy machine is no error
settings.load_profile("untimed")
