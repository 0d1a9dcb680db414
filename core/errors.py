"""What can go wrong, as a tree. Every message says what, what it got, and what to do.

    GradSiftError            catch this one to catch all of them
    ├── InputError           a source, file, label or id that cannot be used as given
    ├── SettingsError        a setting outside its range, found when the settings are made
    ├── ProjectError         a project's folder is missing, damaged, of another version, or in use
    ├── ModelError           a network that cannot be trained, loaded or read
    ├── DecisionError        a review decision that cannot be recorded, undone or redone
    ├── ExportError          an export that cannot be written
    └── Stopped              the person asked for a stop; what is on disk is whole, the same call goes on

The command line prints the message in one line and exits with 1 (with 130 for `Stopped`); nothing else is caught there.
"""


class GradSiftError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(GradSiftError, ValueError):
    """A source, file, label or id cannot be used as given."""


class SettingsError(GradSiftError, ValueError):
    """A setting is outside its range."""


class ProjectError(GradSiftError):
    """A project's folder is missing, damaged, of another version, or in use."""


class ModelError(GradSiftError):
    """A network cannot be trained, loaded or read."""


class DecisionError(GradSiftError, ValueError):
    """A review decision cannot be recorded, undone or redone."""


class ExportError(GradSiftError):
    """An export cannot be written."""


class Stopped(GradSiftError):
    """The person asked for a stop: what is on disk is whole, and the same call goes on from there."""
