"""Two models on the same prompts, judged by a preference model: win rate, score difference, refusals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from solon.alignment.preference import PreferenceModel
from solon.data import packaged
from solon.evaluation.replies import is_refusal
from solon.evaluation.win_rate import WinRate, paired_win_rate
from solon.models.base import Speaker
from solon.statistics.intervals import Estimate, McNemar, mcnemar, paired_difference
from solon.study.options import Models, RunOptions
from solon.tools.measure import Measuring
from solon.words.conversation import Conversation


@dataclass(frozen=True)
class Options(RunOptions, Measuring):
    """Which of two models a preference model prefers on the same prompts; or, with --on, how two or more
    differ on evaluations.
    """

    models: Models = ()
    """two models; with --on any number, the first being the one that the others are held against (a series of
    checkpoints in order)
    """
    on: tuple[Path, ...] = ()
    """files or folders of evaluations to compare on, item by item"""
    judge: Path | None = None
    """a preference model's folder, as `solon align` writes it (RUN/preference_model)"""
    prompts: Path = packaged.RED_TEAM_HELD_OUT
    """prompts for the judge"""
    samples: int = 1
    """replies to each prompt, for the judge"""
    max_tokens: int = 64
    """of a reply"""
    workers: str = "here"
    """where replies are made for the judge: here, processes:N, ray, ray:N or ray:ADDRESS; they are the same
    """


@dataclass(frozen=True, slots=True)
class Judged:
    """The first model against the second, by a judge, over the same prompts."""

    wins: WinRate
    difference: Estimate  # of mean scores, nats
    refusals: tuple[int, int]
    refusal_change: McNemar


def judge_models(
    judge: PreferenceModel,
    models: Sequence[Callable[[], Speaker]],
    prompts: Sequence[Conversation],
    *,
    samples: int,
    max_tokens: int,
    seed: int,
) -> Judged:
    """Both models' replies to the same prompts, scored by the preference model. Models are opened one after
    the other, so that one at a time is in memory.
    """
    scores: list[list[Sequence[float]]] = []
    declined: list[list[bool]] = []
    for open_it in models:
        groups = open_it().sample(prompts, count=samples, max_tokens=max_tokens, seed=seed)
        flat = judge.score(
            [prompt for prompt, group in zip(prompts, groups, strict=True) for _ in group],
            [sample.text for group in groups for sample in group],
        )
        scores.append([flat[start : start + samples] for start in range(0, len(flat), samples)])
        declined.append([is_refusal(group[0].text) for group in groups])
    means = [[sum(group) / len(group) for group in side] for side in scores]
    return Judged(
        paired_win_rate(scores[0], scores[1]),
        paired_difference(means[0], means[1]),
        (sum(declined[0]), sum(declined[1])),
        mcnemar(declined[0], declined[1]),
    )
