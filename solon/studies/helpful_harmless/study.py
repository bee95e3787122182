"""Training a Helpful and Harmless Assistant with RLHF (Bai et al. 2022, arXiv:2204.05862), top to bottom.

How preference models grow with data and size, and what a mixture of helpful and harmless comparisons does to
them; a policy that climbs one of two, and when the other stops believing it; rounds of new comparisons
against one; a tournament; and prompts that are unlike the rest.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from solon.alignment.feedback import ReplyPair
from solon.alignment.outliers import detector_aurocs, exposure_aurocs, prompt_states
from solon.alignment.overoptimisation import expected_best_of_n, with_judge_scores
from solon.alignment.preference import PreferenceModel
from solon.data.published import first_human_text
from solon.data.rows import comparison_from_row, comparison_to_row
from solon.errors import InputError
from solon.models.base import Sample, derive
from solon.models.scalar import ScalarModel
from solon.models.torch_model import TorchModel
from solon.models.weights import load_tensors, save_tensors
from solon.records.files import lines
from solon.records.report import Report
from solon.records.run import Run, step_metrics
from solon.statistics.intervals import Estimate, mean
from solon.studies.helpful_harmless.evidence import (
    BASELINE,
    Findings,
    cell,
    kept_states,
    mixable,
    mixtures,
    sizes,
    split_by_dialogue,
    weighings,
)
from solon.studies.helpful_harmless.report import report
from solon.studies.helpful_harmless.settings import Inputs, Settings
from solon.study.stages import (
    alternated,
    check_depths,
    first_layers,
    mean_reward,
    reinforce,
    replies,
    score_comparisons,
    split_in_halves,
    train_preference_model,
    with_adapters,
)
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation

FEWEST = 16  # ordinary prompts: half of them fit the detector


def study(run: Run, settings: Settings, inputs: Inputs, *, start: TorchModel) -> Report:
    """All of it; every stage is kept, and gone on from."""
    found = Findings(unsure=settings.unsure, counts=dict(inputs.counts))
    base = with_adapters(start, settings, seed=run.seed)
    check_depths(base, settings.depths)
    test, pool = split_by_dialogue(base, inputs, settings, run.seed, found.counts)
    found.counts["comparisons to measure with"], found.counts["comparisons to learn from"] = (
        len(test),
        len(pool),
    )

    # 1. preference models over data and size; over mixtures of both kinds, and weights of one
    both = mixable(pool, test)
    wanted = {*(() if settings.finetuned else settings.depths), *((1.0,) if both else ())}
    states = {depth: kept_states(run, base, depth, [*pool, *test]) for depth in sorted(wanted)}
    grid = itertools.product(settings.depths, sizes(pool, settings, found.counts))
    found.cells = [
        cell(run, base, depth, size, pool, test, states.get(depth), settings) for depth, size in grid
    ]
    if both:
        found.mixtures = mixtures(pool, test, states[1.0], settings, run.seed)
        found.lambdas = weighings(pool, test, states[1.0], settings)

    # 2. two models on disjoint halves: a policy climbs one, and the other says whether the climb is real
    halves = split_in_halves(pool)
    unlearned = PreferenceModel(
        "", ScalarModel(first_layers(base.copy().module, settings.preference_depth)), base.dialogue
    )
    judges = {
        name: train_preference_model(run, replace(unlearned, name=name), half, settings)
        for name, half in zip(("train_pm", "test_pm"), halves, strict=True)
    }
    for name, model in judges.items():
        found.quality[name] = score_comparisons(run, f"quality_{name}", test, model.score)
    drawn = replies(
        run, "start", base, inputs.held_out, count=max(settings.best_of, 1), max_tokens=settings.max_tokens
    )
    means = run.once(
        "means", lambda: {name: mean_reward(model, inputs.held_out, drawn) for name, model in judges.items()}
    )
    usual = baselines(
        run,
        judges,
        inputs.prompts,
        replies(run, "baseline", base, inputs.prompts, count=BASELINE, max_tokens=settings.max_tokens),
    )
    policy = reinforce(
        run,
        "policy",
        base,
        inputs.prompts,
        judges["train_pm"],
        settings=settings,
        watch=lambda policy, steps: with_judge_scores(
            steps, judges, lambda judge, prompt: usual[prompt.key][judge]
        ),
        record=lambda step: [
            {"prompt": r.prompt.key, "gain": r.reward - usual[r.prompt.key]["train_pm"]}
            for r in step.rollouts
        ],
    )
    found.steps = step_metrics(run, "policy")
    found.gained = gained(run)
    found.best = best_of_n(run, judges, means, inputs.held_out, drawn, settings)

    # 3. all comparisons at once, or in rounds with the newest policy: the same number, from scratch, then set
    # against each other
    players = {
        "start": [group[0] for group in drawn],
        "policy": first_of(run, "policy", policy, inputs.held_out, settings),
    }
    if inputs.annotate is not None and settings.rounds:
        for name, rounds in (("once", 1), ("online", settings.rounds)):
            players[name] = first_of(
                run,
                name,
                iterated(run, name, base, unlearned, inputs, settings, rounds, found.counts),
                inputs.held_out,
                settings,
            )

    found.said = players

    # 4. everyone against everyone: by the choices of each preference model, and of whoever compares
    for player, said in players.items():
        found.scores[player] = {
            name: scored(run, f"scores_{player}_{name}", model, inputs.held_out, said)
            for name, model in judges.items()
        }
    if inputs.annotate is not None:
        found.games = tournament(run, players, inputs, found.counts)
        votes = [game.p_first for games in found.games.values() for game in games]
        found.counts["votes of unsure in the tournament (no game)"] = sum(
            abs(vote - 0.5) <= settings.unsure for vote in votes
        )

    # 5. prompts unlike the rest, by what each layer makes of them
    if len(inputs.in_distribution) >= FEWEST and inputs.out_of_distribution:
        inside, outside = (
            layer_states(run, name, start, prompts)
            for name, prompts in (
                ("ordinary", inputs.in_distribution),
                ("strange", inputs.out_of_distribution),
            )
        )
        found.far = detector_aurocs(inside, outside, seed=run.seed)
        if len(outside) > settings.outlier_examples <= len(inside) // 2:
            found.exposed = exposure_aurocs(
                inside, outside, examples=settings.outlier_examples, seed=run.seed
            )
    return report(asdict(settings), found, inputs)


def baselines(
    run: Run,
    judges: Mapping[str, PreferenceModel],
    prompts: Sequence[Conversation],
    drawn: Sequence[Sequence[Sample]],
) -> dict[str, dict[str, float]]:
    """Each judge's mean score of the start's replies to each prompt, by the prompt's key."""

    def make(some: Sequence[tuple[Conversation, Sequence[Sample]]]) -> list[dict[str, Any]]:
        return [
            {name: sum(model([prompt] * len(group), group)) / len(group) for name, model in judges.items()}
            for prompt, group in some
        ]

    rows = run.rows("baseline_scores", list(zip(prompts, drawn, strict=True)), lambda item: item[0].key, make)
    return {
        prompt.key: {name: row[name] for name in judges} for prompt, row in zip(prompts, rows, strict=True)
    }


def gained(run: Run) -> list[tuple[str, float]]:
    """Prompt and what each rollout of the last quarter of the steps scored over the start's replies to it, by
    the train model.
    """
    rows = [row for _, row in lines(run.folder / "policy.rows.jsonl")]
    last = max(row["number"] for row in rows)
    return [(row["prompt"], row["gain"]) for row in rows if row["number"] > last - max(1, last // 4)]


def best_of_n(
    run: Run,
    judges: Mapping[str, PreferenceModel],
    means: Mapping[str, float],
    prompts: Sequence[Conversation],
    drawn: Sequence[Sequence[Sample]],
    settings: Settings,
) -> dict[int, dict[str, Estimate]]:
    """What the best of N replies by the train model scores by each, mean removed, over prompts."""
    counts = [2**power for power in range(settings.best_of.bit_length()) if 2**power <= settings.best_of]

    def make(some: Sequence[tuple[Conversation, Sequence[Sample]]]) -> list[dict[str, Any]]:
        flat = [(prompt, reply) for prompt, group in some for reply in group]
        found = {
            name: iter(model([p for p, _ in flat], [r for _, r in flat])) for name, model in judges.items()
        }
        return [{name: [next(own) for _ in group] for name, own in found.items()} for _, group in some]

    rows = run.rows("best_of", list(zip(prompts, drawn, strict=True)), lambda item: item[0].key, make)
    curves = {
        name: np.array([expected_best_of_n(row["train_pm"], row[name], counts) for row in rows]) - means[name]
        for name in judges
    }
    dialogues = [first_human_text(prompt) for prompt in prompts]
    return {
        count: {name: mean(list(curve[:, place]), clusters=dialogues) for name, curve in curves.items()}
        for place, count in enumerate(counts)
    }


def iterated(
    run: Run,
    name: str,
    base: TorchModel,
    unlearned: PreferenceModel,
    inputs: Inputs,
    settings: Settings,
    rounds: int,
    counts: dict[str, int],
) -> TorchModel:
    """Rounds of: replies by the newest policy, compared; then a new preference model on all comparisons so
    far and a new policy, both from scratch. All rounds together make as many comparisons as one round alone
    would.
    """
    policy, known = base, list[Comparison]()
    for number in range(1, rounds + 1):
        stage = f"{name}_{number}"
        known += compared(run, stage, policy, inputs, settings, settings.round_pairs // rounds, counts)
        if len(known) < 8:
            raise InputError(
                f"{settings.round_pairs // rounds} pairs of replies gave {len(known)} that "
                f"{inputs.annotator} could tell apart; raise round_pairs or max_tokens"
            )
        model = train_preference_model(
            run, replace(unlearned, name=f"{stage}_pm"), alternated(known), settings
        )
        policy = reinforce(
            run,
            f"{stage}_policy",
            base,
            inputs.prompts,
            model,
            settings=settings,
            seed=derive(run.seed, stage),
        )
    return policy


def compared(
    run: Run,
    name: str,
    policy: TorchModel,
    inputs: Inputs,
    settings: Settings,
    wanted: int,
    counts: dict[str, int],
) -> list[Comparison]:
    """So many pairs of a policy's replies to prompts of reinforcement, compared; what the annotator was
    unsure of is left out.
    """
    each = -(-wanted // len(inputs.prompts))  # pairs a prompt
    asked = random.Random(derive(run.seed, name)).sample(inputs.prompts, -(-wanted // each))
    groups = replies(run, f"{name}_replies", policy, asked, count=2 * each, max_tokens=settings.max_tokens)
    pairs = [
        ReplyPair(prompt, a.text, b.text)
        for prompt, own in zip(asked, groups, strict=True)
        for a, b in zip(own[::2], own[1::2], strict=True)
    ]
    labels = annotated(run, f"{name}_labels", pairs[:wanted], inputs)
    decided = [label for label in labels if abs(label.p_first - 0.5) > settings.unsure]
    counts[f"pairs of {name} that were equal, or that {inputs.annotator} was unsure of (not learned)"] = len(
        labels
    ) - len(decided)
    return decided


def annotated(run: Run, name: str, pairs: Sequence[ReplyPair], inputs: Inputs) -> list[Comparison]:
    """What the annotator prefers of each pair, kept as rows. It is not asked where one reply is empty, which
    loses, or both are alike, which is a tie.
    """
    annotate = inputs.annotate
    if annotate is None:
        raise AssertionError("there is no one to compare")
    asked = [pair for pair in pairs if by_rule(pair) is None]
    rows = run.rows(
        name, asked, pair_key, lambda some: [comparison_to_row(label) for label in annotate(some)]
    )
    answers = iter(comparison_from_row(row) for row in rows)
    found = []
    for pair in pairs:
        ruled = by_rule(pair)
        found.append(
            next(answers)
            if ruled is None
            else Comparison(pair.prompt, pair.first, pair.second, ruled, "rule")
        )
    return found


def by_rule(pair: ReplyPair) -> float | None:
    """P(first better) where it needs no judge."""
    first, second = bool(pair.first.strip()), bool(pair.second.strip())
    if first != second:
        return float(first)
    return 0.5 if pair.first == pair.second or not first else None


def pair_key(pair: ReplyPair) -> str:
    return Comparison(pair.prompt, pair.first, pair.second, 0.5, "").key


def first_of(
    run: Run, name: str, model: TorchModel, prompts: Sequence[Conversation], settings: Settings
) -> list[Sample]:
    groups = replies(run, f"held_out_{name}", model, prompts, count=1, max_tokens=settings.max_tokens)
    return [group[0] for group in groups]


def scored(
    run: Run, name: str, model: PreferenceModel, prompts: Sequence[Conversation], said: Sequence[Sample]
) -> list[float]:
    """The score of one reply to each prompt, kept as rows."""

    def make(some: Sequence[tuple[Conversation, Sample]]) -> list[dict[str, Any]]:
        return [
            {"score": score} for score in model([prompt for prompt, _ in some], [reply for _, reply in some])
        ]

    return [
        row["score"]
        for row in run.rows(name, list(zip(prompts, said, strict=True)), lambda item: item[0].key, make)
    ]


def tournament(
    run: Run, players: Mapping[str, Sequence[Sample]], inputs: Inputs, counts: dict[str, int]
) -> dict[tuple[str, str], list[Comparison]]:
    """Every pair of players on every held-out prompt, compared."""
    found = {}
    for first, second in itertools.combinations(players, 2):
        pairs = [
            ReplyPair(p, a.text, b.text)
            for p, a, b in zip(inputs.held_out, players[first], players[second], strict=True)
        ]
        found[first, second] = annotated(run, f"games_{first}_{second}", pairs, inputs)
    for player, said in players.items():
        counts[f"empty replies of {player} to held-out prompts (lose to any other)"] = sum(
            not reply.text.strip() for reply in said
        )
    return found


def layer_states(run: Run, name: str, start: TorchModel, prompts: Sequence[Conversation]) -> np.ndarray:
    """Every layer's mean over each prompt's tokens, (N, L, C), kept."""
    tokens = [start.dialogue.prompt(prompt) for prompt in prompts]
    file = f"layers_{name}-{derive(0, *tokens) % 16**8:08x}.safetensors"
    path = run.artefact(
        file,
        lambda path: save_tensors(
            {"states": torch.from_numpy(prompt_states(start.module, tokens)).float()}, path
        ),
    )
    return np.asarray(load_tensors(path)["states"].double().numpy())
