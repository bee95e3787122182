"""Training a Helpful and Harmless Assistant with RLHF (Bai et al. 2022, arXiv:2204.05862), top to bottom.

Preference models over data, size, mixtures and weights; a policy that climbs one of two, the other looking
on; iterated online training against one round of as many comparisons; a tournament; and prompts unlike the
rest, told apart by activations.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from solon.alignment.overoptimisation import expected_best_of_n, with_judge_scores
from solon.alignment.preference import PreferenceModel
from solon.data.published import first_human_text
from solon.models.base import Sample
from solon.models.torch_model import TorchModel
from solon.records.codecs import PLAIN
from solon.records.files import Row, lines
from solon.records.report import Report
from solon.records.run import Run, step_metrics
from solon.statistics.intervals import Estimate, mean
from solon.studies.helpful_harmless.inputs import Inputs, Options, read
from solon.studies.helpful_harmless.iterated import iterated
from solon.studies.helpful_harmless.learning import (
    ByAxis,
    Cell,
    keep_states,
    measure_cell,
    measure_mixtures,
    measure_weights,
    mixable,
    split_by_dialogue,
)
from solon.studies.helpful_harmless.outliers import tell_apart
from solon.studies.helpful_harmless.report import BASELINE, Results, report
from solon.studies.helpful_harmless.settings import Settings, full, quick, toy
from solon.studies.helpful_harmless.tournament import play
from solon.study.conduct import Study
from solon.study.stages import (
    check_depths,
    mean_reward,
    new_preference_model,
    reinforce,
    replies,
    score_comparisons,
    score_replies,
    split_in_halves,
    train_preference_model,
    with_adapters,
)
from solon.training.steps import Step
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation

Baselines = Mapping[str, Mapping[str, float]]  # by prompt's key and judge


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """All of it; every stage is kept, and gone on from."""
    counts = dict(inputs.counts)
    base = with_adapters(inputs.start, settings, seed=run.seed)
    reply = partial(replies, run, max_tokens=settings.max_tokens)
    check_depths(base, settings.depths)
    test, pool = split_by_dialogue(base, inputs, settings, run.seed, counts)

    # 1. preference models over data and size; over mixtures of both kinds, and weights of one
    cells, mixtures, lambdas = learning_curves(run, base, pool, test, settings)
    counts["sizes over the number of comparisons, left out"] = sum(
        size > len(pool) for size in settings.sizes
    )

    # 2. two models on disjoint halves: a policy climbs one, and the other says whether the climb is real
    unlearned = new_preference_model(base, settings.preference_depth)
    judges = {
        name: train_preference_model(run, replace(unlearned, name=name), half, settings)
        for name, half in zip(("train_pm", "test_pm"), split_in_halves(pool), strict=True)
    }
    quality = {name: score_comparisons(run, f"quality_{name}", test, pm.score) for name, pm in judges.items()}
    drawn = reply("start", base, inputs.held_out, count=settings.best_of)
    means = run.once(
        "means", lambda: {name: mean_reward(pm, inputs.held_out, drawn) for name, pm in judges.items()}
    )
    usual = baselines(run, judges, inputs.prompts, reply("baseline", base, inputs.prompts, count=BASELINE))
    policy = climb(run, base, inputs.prompts, judges, usual, settings=settings)
    best = best_of_n(run, judges, means, inputs.held_out, drawn, most=settings.best_of)

    # 3. all comparisons at once, or in rounds with the newest policy: the same number, from scratch
    models = {"policy": policy, **iterated(run, base, unlearned, inputs, settings, counts=counts)}

    # 4. everyone against everyone: by the choices of each preference model, and of whoever compares
    players = {"start": [group[0] for group in drawn]}
    for name, model in models.items():
        groups = reply(f"held_out_{name}", model, inputs.held_out, count=1)
        players[name] = [group[0] for group in groups]
    scores = {
        player: score_first(run, f"scores_{player}", judges, inputs.held_out, samples)
        for player, samples in players.items()
    }
    games = play(run, players, inputs.held_out, inputs.annotate) if inputs.annotate is not None else {}
    counts |= tournament_counts(players, games, settings.unsure)

    # 5. prompts unlike the rest, by what each layer makes of them
    by_distance, by_exposure = tell_apart(run, inputs, settings.outlier_examples)
    results = Results(
        cells=cells,
        mixtures=mixtures,
        lambdas=lambdas,
        quality=quality,
        steps=step_metrics(run, "policy"),
        best=best,
        players=players,
        scores=scores,
        games=games,
        gains=late_gains(run),
        by_distance=by_distance,
        by_exposure=by_exposure,
        counts=counts,
    )
    return report(settings, inputs, results)


# 1. preference models


def learning_curves(
    run: Run,
    base: TorchModel,
    pool: Sequence[Comparison],
    test: Sequence[Comparison],
    settings: Settings,
) -> tuple[list[Cell], dict[float, ByAxis], dict[float, ByAxis]]:
    """Every size on every depth; and, where there are both kinds of comparisons, mixtures and weights."""
    both = mixable(pool, test)
    wanted = {*(() if settings.finetuned else settings.depths), *((1.0,) if both else ())}
    states = {depth: keep_states(run, base, depth, [*pool, *test]) for depth in sorted(wanted)}
    sizes = [size for size in settings.sizes if size <= len(pool)]
    cells = [
        measure_cell(
            run,
            base,
            depth,
            size,
            pool,
            test=test,
            states_N2C=None if settings.finetuned else states[depth],
            settings=settings,
        )
        for depth, size in itertools.product(settings.depths, sizes)
    ]
    if not both:
        return cells, {}, {}
    mixtures = measure_mixtures(pool, test, states[1.0], settings.mixtures, seed=run.seed)
    return cells, mixtures, measure_weights(pool, test, states[1.0], settings.lambdas)


# 2. a policy that climbs one of two


def baselines(
    run: Run,
    judges: Mapping[str, PreferenceModel],
    prompts: Sequence[Conversation],
    drawn: Sequence[Sequence[Sample]],
) -> Baselines:
    """Each judge's mean score of the start's replies to each prompt, by the prompt's key."""

    def make(batch: Sequence[tuple[Conversation, Sequence[Sample]]]) -> list[Row]:
        return [
            {name: sum(judge([prompt] * len(group), group)) / len(group) for name, judge in judges.items()}
            for prompt, group in batch
        ]

    pairs = list(zip(prompts, drawn, strict=True))
    rows = run.map("baseline_scores", pairs, make, PLAIN, key=lambda pair: pair[0].key)
    return {prompt.key: row for prompt, row in zip(prompts, rows, strict=True)}


def climb(
    run: Run,
    base: TorchModel,
    prompts: Sequence[Conversation],
    judges: Mapping[str, PreferenceModel],
    usual: Baselines,
    *,
    settings: Settings,
) -> TorchModel:
    """A policy that climbs the train PM, the test PM looking on; what each rollout gains over the start's
    replies to the same prompt is kept.
    """

    def watch(policy: TorchModel, steps: Iterator[Step]) -> Iterator[Step]:
        return with_judge_scores(steps, judges, lambda judge, prompt: usual[prompt.key][judge])

    def gains(step: Step) -> list[Row]:
        return [
            {"prompt": r.prompt.key, "gain": r.reward - usual[r.prompt.key]["train_pm"]}
            for r in step.rollouts
        ]

    return reinforce(
        run, "policy", base, prompts, judges["train_pm"], settings=settings, watch=watch, record=gains
    )


def late_gains(run: Run) -> list[tuple[str, float]]:
    """Prompt and gain of each rollout of the last quarter of the steps."""
    rows = [row for _, row in lines(run.folder / "policy.rows.jsonl")]
    last = max(row["number"] for row in rows)
    return [(row["prompt"], row["gain"]) for row in rows if row["number"] > last - max(1, last // 4)]


def best_of_n(
    run: Run,
    judges: Mapping[str, PreferenceModel],
    means: Mapping[str, float],
    prompts: Sequence[Conversation],
    drawn: Sequence[Sequence[Sample]],
    *,
    most: int,
) -> dict[int, dict[str, Estimate]]:
    """What the best of N replies by the train model scores by each, mean removed, over prompts."""
    counts = [2**power for power in range(most.bit_length()) if 2**power <= most]
    scores = score_replies(run, "best_of", judges, prompts, drawn)
    curves = {
        name: np.array(
            [
                expected_best_of_n(chosen_by, values, counts)
                for chosen_by, values in zip(scores["train_pm"], rows, strict=True)
            ]
        )
        - means[name]
        for name, rows in scores.items()
    }
    dialogues = [first_human_text(prompt) for prompt in prompts]
    return {
        count: {name: mean(list(curve[:, index]), clusters=dialogues) for name, curve in curves.items()}
        for index, count in enumerate(counts)
    }


# 3 and 4. the players of the tournament


def score_first(
    run: Run,
    name: str,
    judges: Mapping[str, PreferenceModel],
    prompts: Sequence[Conversation],
    samples: Sequence[Sample],
) -> dict[str, list[float]]:
    """Each judge's score of one reply to each prompt."""
    scores = score_replies(run, name, judges, prompts, [[sample] for sample in samples])
    return {judge: [score for (score,) in rows] for judge, rows in scores.items()}


def tournament_counts(
    players: Mapping[str, Sequence[Sample]],
    games: Mapping[tuple[str, str], Sequence[Comparison]],
    unsure: float,
) -> dict[str, int]:
    """What decided no game, or decided it by rule."""
    if not games:
        return {}
    votes = [game.p_first for rows in games.values() for game in rows]
    empty = {
        f"empty replies of {player} to held-out prompts (lose to any other)": sum(
            not sample.text.strip() for sample in samples
        )
        for player, samples in players.items()
    }
    tied = sum(abs(vote - 0.5) <= unsure for vote in votes)
    return empty | {"votes of unsure in the tournament (no game)": tied}


STUDY = Study(
    name="helpful_harmless",
    options=Options,
    quick=quick,
    full=full,
    toy=toy,
    inputs=read,
    study=study,
    subject=lambda inputs: inputs.start.name,
)
