"""The door: `solon COMMAND ...`. A command's module, and with it torch, is imported only once it is asked
for.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from solon import __version__
from solon.commands.catalogue import COMMANDS, GROUPS
from solon.errors import InputError

UNWRITABLE = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.ENOTDIR)


def usage() -> str:
    """Every command, by group."""
    width = max(map(len, COMMANDS))
    lines = [
        f"solon {__version__}: one laboratory for aligning language models",
        "",
        "usage: solon COMMAND [options]",
    ]
    for group, commands in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {name:<{width}}  {text}" for name, text in commands.items())]
    return "\n".join([*lines, "", "`solon COMMAND --help` lists a command's options."])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 it ran, 2 it could not, 130 it was interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if words[0] in ("--version", "-V"):
        print(__version__)
        return 0
    if words[0] not in COMMANDS:
        near = difflib.get_close_matches(words[0], COMMANDS, n=3)
        hint = f"the nearest are {', '.join(near)}" if near else f"there are {', '.join(COMMANDS)}"
        print(f"solon: no command {words[0]!r}; {hint}", file=sys.stderr)
        return 2
    warnings.showwarning = show_own_warnings
    try:
        return int(importlib.import_module(f"solon.commands.{words[0].replace('-', '_')}").main(words[1:]))
    except InputError as error:
        print(f"solon: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nsolon: stopped. What was made is kept: the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        where = f" at {error.filename}" if error.filename else ""
        print(
            f"solon: cannot write{where}: {error.strerror}. What was made is kept: make room or choose "
            "another "
            "folder, and go on",
            file=sys.stderr,
        )
    return 2


def show_own_warnings(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of Solon's own as one line; those of libraries are not the user's business."""
    if "solon" in filename.replace("\\", "/").split("/"):
        print(f"solon: {message}", file=file or sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
