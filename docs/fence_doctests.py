"""A griffe extension: doctests in docstrings become fenced code, so that the reference shows them as such."""

from __future__ import annotations

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"(?:^[ ]*>>> .*\n?(?:^[ ]*\S.*\n?)*)+", re.MULTILINE)


class FenceDoctests(griffe.Extension):
    """Wraps every doctest of a docstring in a fence."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(fence, obj.docstring.value)


def fence(match: re.Match[str]) -> str:
    return f"\n```pycon\n{match.group().rstrip()}\n```\n"
