"""Pretraining & Reinforcement Learning: Sharpening the Axe Before Cutting the Tree."""

from solon.study.paper import Paper

PAPER = Paper(
    title="Pretraining & Reinforcement Learning: Sharpening the Axe Before Cutting the Tree",
    arxiv="2110.06497",
)
