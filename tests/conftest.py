"""Shapes and types of every call into `core` are checked while the tests run."""

from jaxtyping import install_import_hook

install_import_hook("core", "beartype.beartype")
