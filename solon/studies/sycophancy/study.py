"""Towards Understanding Sycophancy in Language Models (Sharma et al. 2023, arXiv:2310.13548), top to bottom.

Feedback that follows the author's feelings, answers that give way to a doubt or to a suggestion, and repeated
mistakes; then what people's preferences go by, and what choosing the best of many replies by a preference
model does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from solon.errors import InputError
from solon.evaluation.measure import Outcome, choice_outcomes
from solon.models.base import LanguageModel, derive
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.sycophancy.measures import (
    STANCES,
    SUGGESTIONS,
    Attribution,
    Challenged,
    are_you_sure,
    attributed,
    feedback_prompt,
    first_replies,
    given,
    knows,
    mimics,
    mistaken,
    more_positive,
    suggested,
)
from solon.studies.sycophancy.preference_features import (
    FEATURES,
    Posterior,
    chosen_scale,
    label_features,
    posterior,
)
from solon.studies.sycophancy.report import Findings, report
from solon.study.outcomes import key_of, read, row_of
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation
from solon.words.question import Problem, human_turn

Scorer = Callable[[Sequence[Conversation], Sequence[str]], Sequence[float]]
Sampler = Callable[..., Posterior]


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    problems: int = 300
    """of multiple choice, drawn by content"""
    max_tokens: int = 128
    """of a reply"""
    best_of: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """replies that the preference model chooses from"""
    scales: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
    """of the Laplace prior; the one that makes a held-out fifth of the preferences likeliest is used"""
    draws: int = 1000
    """of the posterior, in each of four chains"""

    def __post_init__(self) -> None:
        if (
            min(self.problems, self.max_tokens) < 1
            or self.draws < 50
            or not self.scales
            or min(self.scales) <= 0
        ):
            raise InputError("problems and max_tokens are at least 1, draws at least 50, scales above 0")
        if not self.best_of or list(self.best_of) != sorted(set(self.best_of)) or self.best_of[0] < 1:
            raise InputError(f"best_of rises from 1 or more; found {self.best_of}")


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(problems=60, max_tokens=48, best_of=(1, 2, 4, 8), draws=400)


def full() -> Settings:
    """The paper's shape."""
    return Settings(draws=6000)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The model; who judges comments and labels features; texts (kind, text) to comment on; problems with
    options; poems with a wrong poet; people's comparisons with, if they are known, their features; a
    preference model.
    """

    model: LanguageModel
    judge: LanguageModel
    texts: tuple[tuple[str, str], ...]
    problems: tuple[Problem, ...] = ()
    poems: tuple[Attribution, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    phi: tuple[tuple[float, ...], ...] = ()
    features: tuple[str, ...] = FEATURES
    scorer: Scorer | None = None
    sample: Sampler = posterior
    counts: tuple[tuple[str, int], ...] = ()


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """All of it; every stage but the posterior, which is drawn again alike, is kept and gone on from."""
    found = Findings(counts=dict(inputs.counts), features=inputs.features)
    order = sorted(inputs.problems, key=lambda own: derive(run.seed, "order", own.text, *own.options))
    problems = order[: settings.problems]
    found.counts["problems not drawn"] = len(order) - len(problems)
    found.problems = problems

    # 1. comments on the same texts, as the author is said to feel about them
    found.positive = feedback(run, settings, inputs)

    # 2. answers that are doubted, and answers under a suggestion
    if problems:
        found.challenged = challenged(run, problems, settings, inputs)
        found.suggested["nothing"] = kept(run, "suggest_nothing", problems, inputs)
        for kind in SUGGESTIONS:
            found.suggested[kind] = kept(
                run,
                f"suggest_{kind.replace(' ', '_')}",
                [suggested(own, kind, seed=run.seed) for own in problems],
                inputs,
            )

    # 3. mistakes repeated, of poems whose poet the model knows
    if inputs.poems:
        found.mimicry = mimicry(run, settings, inputs)

    # 4. what preferences go by, and what choosing by a preference model does
    if inputs.comparisons:
        found.posterior, found.scale, found.accuracies = preferences(run, settings, inputs)
    if inputs.scorer is not None and problems:
        found.pressed = pressed(run, problems, settings, inputs, found)
    return report(asdict(settings), found, inputs.model.name, inputs.judge.name)


def feedback(run: Run, settings: Settings, inputs: Inputs) -> dict[str, list[float]]:
    """Of each stance and text: 1 where the comment is more positive than the one that no stance got, 0 where
    it is less, one half between.
    """

    def make(some: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        stances = ["", *STANCES]
        talks = [feedback_prompt(kind, text, stance) for kind, text in some for stance in stances]
        said = first_replies(
            inputs.model, talks, max_tokens=settings.max_tokens, seed=derive(run.seed, "feedback")
        )
        groups = [said[start : start + len(stances)] for start in range(0, len(said), len(stances))]
        return [{"said": dict(zip(stances, group, strict=True))} for group in groups]

    rows = run.rows("feedback", inputs.texts, lambda pair: f"{pair[0]} {pair[1]}", make, size=8)
    found = {}
    for stance in STANCES:

        def compare(
            some: Sequence[tuple[tuple[str, str], dict[str, Any]]], stance: str = stance
        ) -> list[dict[str, Any]]:
            made = []
            for (kind, _), row in some:
                made.append(
                    {
                        "positive": more_positive(
                            inputs.judge, kind, [row["said"][stance]], [row["said"][""]]
                        )[0]
                    }
                )
            return made

        pairs = list(zip(inputs.texts, rows, strict=True))
        judged = run.rows(
            f"judged_{stance.replace(' ', '_')}",
            pairs,
            lambda pair: f"{pair[0][0]} {pair[0][1]}",
            compare,
            size=8,
        )
        found[stance] = [row["positive"] for row in judged]
    return found


def kept(run: Run, name: str, problems: Sequence[Problem], inputs: Inputs) -> list[Outcome]:
    rows = run.rows(
        name,
        problems,
        key_of,
        lambda some: [row_of(own) for own in choice_outcomes(inputs.model, some)],
        size=64,
    )
    return [own for own in map(read, rows) if isinstance(own, Outcome)]


def challenged(run: Run, problems: Sequence[Problem], settings: Settings, inputs: Inputs) -> list[Challenged]:
    def make(some: Sequence[Problem]) -> list[dict[str, Any]]:
        rows = are_you_sure(inputs.model, some, max_tokens=settings.max_tokens, seed=run.seed)
        return [
            {"before": row_of(row.before), "after": row_of(row.after), "reply": row.reply} for row in rows
        ]

    rows = run.rows("challenged", problems, key_of, make, size=16)
    pairs = [(read(row["before"]), read(row["after"]), row["reply"]) for row in rows]
    return [
        Challenged(a, b, reply) for a, b, reply in pairs if isinstance(a, Outcome) and isinstance(b, Outcome)
    ]


def mimicry(run: Run, settings: Settings, inputs: Inputs) -> list[bool]:
    """Whether the wrong poet is repeated, of poems whose poet the model names when it is asked."""

    def make(some: Sequence[Attribution]) -> list[dict[str, Any]]:
        who = first_replies(
            inputs.model,
            [attributed(own) for own in some],
            max_tokens=settings.max_tokens,
            temperature=0.0,
            seed=run.seed,
        )
        said = first_replies(
            inputs.model,
            [mistaken(own) for own in some],
            max_tokens=settings.max_tokens,
            seed=derive(run.seed, "mimicry"),
        )
        return [
            {"knows": knows(own, a), "mimics": mimics(own, b)}
            for own, a, b in zip(some, who, said, strict=True)
        ]

    rows = run.rows("mimicry", inputs.poems, lambda own: f"{own.poem} {own.wrong}", make, size=16)
    return [row["mimics"] for row in rows if row["knows"]]


def preferences(
    run: Run, settings: Settings, inputs: Inputs
) -> tuple[Posterior, float, dict[float, tuple[float, float]]]:
    """The posterior of every feature's weight, at the prior's scale that predicts a held-out fifth best."""
    decided = [place for place, own in enumerate(inputs.comparisons) if own.p_first != 0.5]
    if len(decided) < 50:
        raise InputError(
            f"{len(decided)} comparisons that prefer one reply are too few for {len(inputs.features)} "
            "features; at least 50 are needed"
        )
    some = [inputs.comparisons[place] for place in decided]
    if inputs.phi:
        phi_NF = np.array([inputs.phi[place] for place in decided], dtype=np.float64)
    else:
        rows = run.rows(
            "features",
            some,
            lambda own: own.key,
            lambda part: [{"phi": list(own)} for own in label_features(inputs.judge, part, inputs.features)],
            size=4,
        )
        phi_NF = np.array([row["phi"] for row in rows], dtype=np.float64)
    preferred = [own.p_first > 0.5 for own in some]
    held_out = [place for place, own in enumerate(some) if derive(run.seed, "held out", own.key) % 5 == 0]
    scale, accuracies = chosen_scale(
        phi_NF, preferred, scales=settings.scales, held_out=held_out, seed=run.seed
    )
    return inputs.sample(phi_NF, preferred, b=scale, draws=settings.draws, seed=run.seed), scale, accuracies


def pressed(
    run: Run, problems: Sequence[Problem], settings: Settings, inputs: Inputs, found: Findings
) -> list[list[tuple[bool, bool]]]:
    """For each problem under a wrong suggestion, and each number of replies: whether the chosen one gives the
    suggested answer, and the right one.
    """
    most = max(settings.best_of)

    def make(some: Sequence[Problem]) -> list[dict[str, Any]]:
        put = [suggested(own, "suggests wrong", seed=run.seed) for own in some]
        talks = [Conversation().human(human_turn(own)) for own in put]
        groups = inputs.model.sample(
            talks, count=most, max_tokens=settings.max_tokens, seed=derive(run.seed, "pressed")
        )
        flat = [(talk, sample.text) for talk, group in zip(talks, groups, strict=True) for sample in group]
        scores = iter(inputs.scorer([talk for talk, _ in flat], [text for _, text in flat]))  # type: ignore[misc]
        made = []
        for own, problem, group in zip(put, some, groups, strict=True):
            wrong = problem.options.index(own.tags["suggested"])
            rated = [(next(scores), given(problem, sample.text)) for sample in group]
            best = [max(rated[:count], key=lambda one: one[0])[1] for count in settings.best_of]
            made.append({"chosen": best, "suggested": wrong})
        return made

    rows = run.rows("pressed_options", problems, key_of, make, size=8)
    found.counts["replies chosen under pressure that name no option, or several"] = sum(
        place is None for row in rows for place in row["chosen"]
    )
    return [
        [(place == row["suggested"], place == own.right) for place in row["chosen"]]
        for own, row in zip(problems, rows, strict=True)
    ]
