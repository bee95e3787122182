"""The one error a user is meant to see."""

from __future__ import annotations


class InputError(ValueError):
    """What was asked cannot be done. The message names what was asked, what was found and what to do.

    The command line prints it without a traceback and exits with status 2; anything else that escapes is a
    bug.
    """
