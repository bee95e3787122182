"""Every command, by what it is for."""

from __future__ import annotations

GROUPS = {
    "align": {
        "align": "align a model to a written constitution, and report what changed",
    },
    "study": {
        "studies": "list every paper of the mission: what works and what does not yet",
        "run": "run a study by name",
        "sweep": "one command under many settings and seeds, on one machine or many",
    },
    "measure": {
        "measure": "a model on published evaluations and your own: knowledge, behaviour, bias, opinions",
        "compare": "two models on the same prompts or evaluations, paired",
        "knows": "fit what a model knows of itself; let it answer only what it knows",
        "lm-eval": "lm-evaluation-harness on this engine: `--model solon` (an extra)",
    },
    "look inside": {
        "explain": "which training rows of a run made a reply likelier",
        "features": "which features of a dictionary moved between a run's first model and its last",
    },
    "talk": {
        "chat": "talk to a model",
        "sample": "sample replies to prompts",
        "score": "log-probabilities of replies, or belief over choices",
    },
    "runs": {
        "show": "list runs, or show one run's report",
        "config": "print a run's flags as TOML, for --config",
        "export": "copy a run's model, adapter, preference model and rows to a folder",
    },
    "this machine": {
        "doctor": "check this machine and this installation",
        "completion": "print a completion script for bash, zsh or fish",
    },
}
COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}
