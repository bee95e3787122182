"""Paths of the constitutions, prompts and worked examples that ship with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

FOLDER = Path(str(files("solon") / "data" / "files"))
CONSTITUTION = FOLDER / "constitution.txt"
GENERAL = FOLDER / "general_principle.txt"
RED_TEAM, RED_TEAM_HELD_OUT = FOLDER / "red_team.txt", FOLDER / "red_team_held_out.txt"
HELPFUL, HELPFUL_HELD_OUT = FOLDER / "helpful.txt", FOLDER / "helpful_held_out.txt"
CRITIQUE_EXAMPLES = FOLDER / "critique_examples.jsonl"
ASSISTANT = FOLDER / "assistant.txt"
TRAITS = FOLDER / "traits.toml"
WORLD = FOLDER / "world.json"
FEEDBACK = FOLDER / "feedback.jsonl"
BEHAVIOURS = FOLDER / "behaviours.toml"
