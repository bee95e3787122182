"""Towards Understanding Sycophancy in Language Models (Sharma et al. 2023, arXiv:2310.13548), top to bottom.

Feedback that follows the author's feelings, answers that give way to a doubt or to a suggestion, and repeated
mistakes; then what people's preferences go by, and what choosing the best of many replies by a preference
model does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from solon.errors import InputError
from solon.models.base import derive
from solon.records.codecs import PLAIN, Codec
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.sycophancy.inputs import Inputs, Options, Scorer, read
from solon.studies.sycophancy.measures import (
    STANCES,
    SUGGESTIONS,
    Attribution,
    Challenged,
    are_you_sure,
    feedback_prompt,
    first_replies,
    mimics,
    misattributed_prompt,
    more_positive,
    named_option,
    names,
    poet_prompt,
    suggested,
)
from solon.studies.sycophancy.preference_features import chosen_scale, label_features
from solon.studies.sycophancy.report import Preferences, Pressed, Results, report
from solon.studies.sycophancy.settings import Settings, full, quick, toy
from solon.study.conduct import Study
from solon.study.outcomes import choice_stage, outcome_of, row_of
from solon.study.stages import score_groups
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation
from solon.words.question import Problem, human_turn

Text = tuple[str, str]  # kind, text
CHALLENGED: Codec[Problem, Challenged] = Codec(
    lambda problem, row: {"before": row_of(row.before), "after": row_of(row.after), "reply": row.reply},
    lambda row: Challenged(outcome_of(row["before"]), outcome_of(row["after"]), row["reply"]),
)


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """Every stage but the posterior, which is drawn again alike, is kept, and read back."""
    ordered = sorted(
        inputs.problems, key=lambda problem: derive(run.seed, "order", problem.text, *problem.options)
    )
    problems = ordered[: settings.problems]
    results = Results(
        model=inputs.model.name,
        judge=inputs.judge.name,
        problems=problems,
        counts=dict(inputs.counts) | {"problems not drawn": len(ordered) - len(problems)},
    )

    # 1. comments on the same texts, as the author is said to feel about them
    results.positive = feedback(run, inputs, max_tokens=settings.max_tokens)

    # 2. answers that are doubted, and answers under a suggestion
    if problems:
        results.challenged = challenge(run, problems, inputs, max_tokens=settings.max_tokens)
        results.suggested["nothing"] = choice_stage(run, "suggest_nothing", inputs.model, problems, size=64)
        for kind in SUGGESTIONS:
            asked = [suggested(problem, kind, seed=run.seed) for problem in problems]
            name = f"suggest_{kind.replace(' ', '_')}"
            results.suggested[kind] = choice_stage(run, name, inputs.model, asked, size=64)

    # 3. mistakes repeated, of poems whose poet the model knows
    if inputs.poems:
        results.mimicry = mimicry(run, inputs, max_tokens=settings.max_tokens)

    # 4. what preferences go by, and what choosing by a preference model does
    if inputs.comparisons:
        results.preferences = preferences(run, settings, inputs)
    if inputs.scorer is not None and problems:
        results.pressed = best_of(run, settings, inputs, problems, inputs.scorer)
    return report(settings, results)


def feedback(run: Run, inputs: Inputs, *, max_tokens: int) -> dict[str, list[float]]:
    """Of each stance and text: 1 where the comment is more positive than the one that no stance got, 0 where
    it is less, one half between.
    """
    stances = ["", *STANCES]

    def comment(batch: Sequence[Text]) -> list[dict[str, str]]:
        prompts = [feedback_prompt(kind, text, stance) for kind, text in batch for stance in stances]
        seed = derive(run.seed, "feedback")
        said = iter(first_replies(inputs.model, prompts, max_tokens=max_tokens, seed=seed))
        return [{stance: next(said) for stance in stances} for _ in batch]

    comments = run.map("feedback", inputs.texts, comment, PLAIN, key=" ".join, size=8)
    pairs = list(zip(inputs.texts, comments, strict=True))

    def compare(stance: str) -> list[float]:
        def make(batch: Sequence[tuple[Text, dict[str, str]]]) -> list[float]:
            return [
                more_positive(inputs.judge, kind, [said[stance]], [said[""]])[0] for (kind, _), said in batch
            ]

        name = f"judged_{stance.replace(' ', '_')}"
        return run.map(name, pairs, make, PLAIN, key=lambda pair: " ".join(pair[0]), size=8)

    return {stance: compare(stance) for stance in STANCES}


def challenge(run: Run, problems: Sequence[Problem], inputs: Inputs, *, max_tokens: int) -> list[Challenged]:
    """Every answer before and after it was doubted."""

    def make(batch: Sequence[Problem]) -> list[Challenged]:
        return are_you_sure(inputs.model, batch, max_tokens=max_tokens, seed=run.seed)

    return run.map("challenged", problems, make, CHALLENGED, size=16)


def mimicry(run: Run, inputs: Inputs, *, max_tokens: int) -> list[bool]:
    """Whether the wrong poet is repeated, of poems whose poet the model names when it is asked."""

    def make(batch: Sequence[Attribution]) -> list[bool | None]:
        asked, misled = [poet_prompt(poem) for poem in batch], [misattributed_prompt(poem) for poem in batch]
        named = first_replies(inputs.model, asked, max_tokens=max_tokens, temperature=0.0, seed=run.seed)
        said = first_replies(inputs.model, misled, max_tokens=max_tokens, seed=derive(run.seed, "mimicry"))
        return [
            mimics(poem, reply) if names(poem.poet, answer) else None
            for poem, answer, reply in zip(batch, named, said, strict=True)
        ]

    rows: list[bool | None] = run.map(
        "mimicry", inputs.poems, make, PLAIN, key=lambda poem: f"{poem.poem} {poem.wrong}", size=16
    )
    return [repeated for repeated in rows if repeated is not None]


def preferences(run: Run, settings: Settings, inputs: Inputs) -> Preferences:
    """The posterior of every feature's weight, at the prior's scale that predicts a held-out fifth best."""
    decided = [index for index, row in enumerate(inputs.comparisons) if row.p_first != 0.5]
    if len(decided) < 50:
        raise InputError(
            f"{len(decided)} comparisons that prefer one reply are too few for {len(inputs.features)} "
            "features; at least 50 are needed"
        )
    comparisons = [inputs.comparisons[index] for index in decided]

    def label(batch: Sequence[Comparison]) -> list[list[float]]:
        labels: list[list[float]] = label_features(inputs.judge, batch, inputs.features).tolist()
        return labels

    phi = (
        [inputs.phi[index] for index in decided]
        if inputs.phi
        else run.map("features", comparisons, label, PLAIN, size=4)
    )
    phi_NF, preferred = np.array(phi, dtype=np.float64), [row.p_first > 0.5 for row in comparisons]
    held_out = [
        index for index, row in enumerate(comparisons) if derive(run.seed, "held out", row.key) % 5 == 0
    ]
    scale, scores = chosen_scale(phi_NF, preferred, scales=settings.scales, held_out=held_out, seed=run.seed)
    posterior = inputs.sample(phi_NF, preferred, b=scale, draws=settings.draws, seed=run.seed)
    return Preferences(inputs.features, posterior, scale, scores)


def best_of(
    run: Run, settings: Settings, inputs: Inputs, problems: Sequence[Problem], scorer: Scorer
) -> list[Pressed]:
    """For each problem under a wrong suggestion, and each number of replies: the option that the reply of the
    highest score names.
    """

    def pressed(problem: Problem) -> Problem:
        return suggested(problem, "suggests wrong", seed=run.seed)

    def make(batch: Sequence[Problem]) -> list[list[int | None]]:
        prompts = [Conversation().human(human_turn(pressed(problem))) for problem in batch]
        samples = inputs.model.sample(
            prompts,
            count=max(settings.best_of),
            max_tokens=settings.max_tokens,
            seed=derive(run.seed, "pressed"),
        )
        replies = [[sample.text for sample in group] for group in samples]
        scores = score_groups(scorer, prompts, replies)

        def best(row: int, count: int) -> str:
            return replies[row][scores[row].index(max(scores[row][:count]))]

        return [
            [named_option(problem, best(row, count)) for count in settings.best_of]
            for row, problem in enumerate(batch)
        ]

    chosen = run.map("pressed_options", problems, make, PLAIN, size=8)
    return [
        Pressed(tuple(options), problem.options.index(pressed(problem).tags["suggested"]), problem.right)
        for problem, options in zip(problems, chosen, strict=True)
    ]


STUDY = Study(
    name="sycophancy",
    options=Options,
    quick=quick,
    full=full,
    toy=toy,
    inputs=read,
    study=study,
    subject=lambda inputs: inputs.model.name,
)
