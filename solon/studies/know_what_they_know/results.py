"""What the study of self-knowledge measures, and what all its sections read off it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from solon.evaluation.measure import Outcome
from solon.evaluation.self_knowledge import SampledAnswers, p_true
from solon.records.report import Figure, Line
from solon.statistics.calibration import auroc
from solon.statistics.intervals import Estimate
from solon.words.question import Problem


@dataclass(frozen=True, slots=True)
class Judgement:
    """P(True) of one sample of a question: the outcome, the question's text, and which of its samples was
    judged.
    """

    row: Outcome
    question: str
    sample: int

    @property
    def p_true(self) -> float:
        return p_true(self.row)

    @property
    def right(self) -> bool:
        return self.row.right == 0


@dataclass(frozen=True, slots=True)
class Sourced:
    """For each strength of source, and last for another question's strongest: P(IK) of held-out questions
    behind it, and whether the greedy reply is right there. `questions` are their indices.
    """

    questions: Sequence[int]
    p_ik: Sequence[Sequence[float]]
    right: Sequence[Sequence[float]]


@dataclass(slots=True)
class Results:
    """Outcomes by what their keys name. P(IK) is of held-out questions, by their index in the task."""

    main: str  # the model that is studied
    threshold: float  # a question counts as known where more than this share of samples is right
    choices: dict[tuple[str, str], list[Outcome]] = field(default_factory=dict)  # set, variant
    tempered: dict[str, list[Outcome]] = field(default_factory=dict)
    examples: dict[str, list[Problem]] = field(default_factory=dict)
    problems: dict[str, list[Problem]] = field(default_factory=dict)
    samples: dict[tuple[str, str], list[SampledAnswers]] = field(default_factory=dict)  # task, model
    judged: dict[tuple[str, str, int], list[Judgement]] = field(default_factory=dict)  # task, prompt, ideas
    crossed: dict[tuple[str, str, str], list[Judgement]] = field(default_factory=dict)  # task, speaker, judge
    p_ik: dict[tuple[str, str, str], dict[int, float]] = field(
        default_factory=dict
    )  # task, model, learned from
    sourced: dict[str, Sourced] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def shares(self, task: str, model: str, questions: Sequence[int]) -> list[float]:
        """The share of right samples of each question, which is the truth of P(IK)."""
        return [self.samples[task, model][question].share for question in questions]

    def known(self, task: str, model: str, questions: Sequence[int]) -> list[bool]:
        return [share > self.threshold for share in self.shares(task, model, questions)]


def area(scores: Sequence[float], right: Sequence[bool]) -> Estimate | None:
    """AUROC, or nothing where all are right or none is."""
    return auroc(scores, right) if any(right) and not all(right) else None


def histogram(title: str, note: str, groups: Mapping[str, Sequence[float]], *, bins: int = 10) -> Figure:
    """Stated probabilities of two groups, each as shares of its own number."""
    edges = np.linspace(0, 1, bins + 1)
    lines = []
    for name, values in groups.items():
        share = np.histogram(values, edges)[0] / max(len(values), 1)
        x = tuple((edges[:-1] + 0.5 / bins).tolist())
        lines.append(Line(f"{name} ({len(values)})", x, tuple(share.tolist())))
    return Figure(title, "stated probability", "share", tuple(lines), note)


def split_by(
    values: Sequence[float], flags: Sequence[bool], names: tuple[str, str]
) -> dict[str, list[float]]:
    """The values that are flagged under the first name, the others under the second."""
    pairs = list(zip(values, flags, strict=True))
    return {
        name: [value for value, flag in pairs if flag is wanted]
        for name, wanted in zip(names, (True, False), strict=True)
    }
