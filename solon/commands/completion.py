"""`solon completion bash|zsh|fish`: a script that completes commands, studies and flags."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence

from solon.commands.catalogue import COMMANDS
from solon.errors import InputError
from solon.study.options import flags_of
from solon.study.paper import papers, runs

USAGE = """usage: solon completion bash|zsh|fish

Prints a script; for bash: solon completion bash > ~/.local/share/bash-completion/completions/solon"""
PLAIN = ("studies", "completion", "lm-eval", "run")  # commands without flags of a dataclass
HOMES = {
    "measure": "solon.tools.measure",
    "compare": "solon.tools.compare",
    "knows": "solon.tools.knows.inputs",
    "explain": "solon.tools.explain.inputs",
    "features": "solon.tools.features.inputs",
    "align": "solon.studies.constitutional_ai.inputs",
}


def main(argv: Sequence[str]) -> int:
    if set(argv) & {"-h", "--help"} or len(argv) != 1:
        print(USAGE)
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    scripts = {"bash": bash, "zsh": zsh, "fish": fish}
    if argv[0] not in scripts:
        raise InputError(f"there are scripts for {', '.join(scripts)}; found {argv[0]!r}")
    print(scripts[argv[0]](all_flags(tuple(COMMANDS))))
    return 0


def all_flags(commands: Sequence[str]) -> dict[str, list[str]]:
    """Every command's flags, and every study's under "run STUDY"; plain commands have none."""
    flags: dict[str, list[str]] = {name: [] for name in commands}
    for name in commands:
        if name not in PLAIN:
            home = HOMES.get(name, f"solon.commands.{name.replace('-', '_')}")
            flags[name] = flags_of(importlib.import_module(home).Options)
    for name in filter(runs, papers()):
        flags[f"run {name}"] = flags_of(importlib.import_module(f"solon.studies.{name}.inputs").Options)
    return flags


def bash(flags: dict[str, list[str]]) -> str:
    """A function for bash's `complete`, with files where no word of ours fits."""
    cases = "\n".join(f'    "{name}") words="{" ".join(own)}" ;;' for name, own in flags.items() if own)
    commands = " ".join(name for name in flags if " " not in name)
    studies = " ".join(name.split()[1] for name in flags if " " in name)
    return f"""_solon() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" command="${{COMP_WORDS[1]}}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{commands}" -- "$word")); return
  fi
  if [ "$command" = run ] && [ "$COMP_CWORD" -eq 2 ]; then
    COMPREPLY=($(compgen -W "{studies}" -- "$word")); return
  fi
  [ "$command" = run ] && command="run ${{COMP_WORDS[2]}}"
  case "$command" in
{cases}
  esac
  case "$word" in
    -*) COMPREPLY=($(compgen -W "$words" -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -- "$word")) ;;
  esac
}}
complete -o filenames -F _solon solon"""


def zsh(flags: dict[str, list[str]]) -> str:
    """The same through zsh's emulation of bash's completion."""
    return f"autoload -U +X bashcompinit && bashcompinit\n{bash(flags)}"


def fish(flags: dict[str, list[str]]) -> str:
    """Lines of fish's `complete`."""
    top = "__fish_use_subcommand"
    lines = [f"complete -c solon -n {top} -f -a '{name}'" for name in flags if " " not in name]
    for name, own in flags.items():
        command, _, study = name.partition(" ")
        seen = f"__fish_seen_subcommand_from {command}"
        if study:
            lines.append(f"complete -c solon -n '{seen}' -f -a '{study}'")
            seen += f"; and __fish_seen_subcommand_from {study}"
        lines += [f"complete -c solon -n '{seen}' -l {re.sub('^--', '', flag)}" for flag in own]
    return "\n".join(lines)
