"""The door: `solon COMMAND ...`. A command's module, and with it torch, is imported only once it is asked
for.
"""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Sequence

from solon import __version__
from solon.errors import InputError

COMMANDS = {
    "align": "align a model to a written constitution, and report what changed",
    "run": "run a study by name",
    "studies": "list every paper of the mission: what works and what does not yet",
    "chat": "talk to a model",
    "sample": "sample replies to prompts",
    "score": "log-probabilities of replies, or belief over choices",
    "show": "list runs, or show one run's report",
    "measure": "a model on published evaluations and your own: knowledge, behaviour, bias, opinions",
    "knows": "fit what a model knows of itself; let it answer only what it knows",
    "explain": "which training rows of a run made a reply likelier",
    "features": "which features of a dictionary moved between a run's first model and its last",
    "compare": "two models on the same prompts or evaluations, paired",
    "lm-eval": "lm-evaluation-harness on this engine: `--model solon` (an extra)",
    "sweep": "one command under many settings and seeds, on one machine or many",
    "export": "copy a run's model, adapter, preference model and rows to a folder",
    "doctor": "check this machine and this installation",
}


HOMES = {"align": "solon.studies.constitutional_ai.inputs"}


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {words}" for name, words in COMMANDS.items()]
    head = (
        f"solon {__version__}: one laboratory for aligning language models\n\nusage: solon COMMAND "
        "[options]\n"
    )
    return "\n".join([head, *lines, "\n`solon COMMAND --help` lists a command's options."])


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
        print(f"solon: no command {words[0]!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        home = HOMES.get(words[0], f"solon.commands.{words[0].replace('-', '_')}")
        return int(importlib.import_module(home).main(words[1:]))
    except InputError as error:
        print(f"solon: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nsolon: stopped. What was made is kept: the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.ENOTDIR):
            raise
        where = f" at {error.filename}" if error.filename else ""
        print(
            f"solon: cannot write{where}: {error.strerror}. What was made is kept: make room or choose "
            "another folder, and go on",
            file=sys.stderr,
        )
    return 2


if __name__ == "__main__":
    sys.exit(main())
