"""AI feedback in the main job: labels of pairs of replies, and whether they agree with people's."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from solon.alignment.feedback import ReplyPair, label_with_reasoning
from solon.data.published import first_human_text
from solon.errors import InputError
from solon.models.base import LanguageModel, derive
from solon.models.torch_model import TorchModel
from solon.records.codecs import COMPARISONS
from solon.records.run import Run
from solon.statistics.intervals import Estimate
from solon.studies.constitutional_ai.evidence import Labels, against_chance, agreement_by_way
from solon.studies.constitutional_ai.inputs import QUESTION, Inputs
from solon.studies.constitutional_ai.settings import Settings
from solon.study.stages import LABELLERS, alternated, by_dialogue
from solon.words.comparison import Comparison
from solon.words.constitution import Constitution


def split_people(inputs: Inputs, seed: int) -> tuple[list[Comparison], list[list[Comparison]]]:
    """People's comparisons: those kept for measuring (ties left out), and two halves that share no dialogue
    with them or each other.

    Kept are all whose dialogue is among the prompts, and as many more as make a fifth (400 at the most).
    Raises InputError where a half has fewer than eight.
    """
    if not inputs.comparisons:
        return [], [[], []]
    prompts = (*inputs.prompts, *inputs.held_out, *inputs.helpful, *inputs.helpful_held_out)
    among = {first_human_text(prompt) for prompt in prompts}
    reserved = [c for c in inputs.comparisons if first_human_text(c.prompt) in among]
    wanted = min(400, len(inputs.comparisons) // 5)
    halves: list[list[Comparison]] = [[], []]
    rest = [rows for opening, rows in by_dialogue(inputs.comparisons).items() if opening not in among]
    for dialogue in random.Random(derive(seed, "halves")).sample(rest, len(rest)):
        part = reserved if len(reserved) < wanted else min(halves, key=len)
        part.extend(dialogue)
    if min(map(len, halves)) < 8:
        raise InputError(
            f"{len(inputs.comparisons)} comparisons give {len(reserved)} to measure with and "
            f"{len(halves[0])} and {len(halves[1])} to learn from; give more, from dialogues that are not "
            "among the prompts"
        )
    return [c for c in reserved if c.p_first != 0.5], [alternated(half) for half in halves]


def check_feedback(
    run: Run, people: Sequence[Comparison], settings: Settings, inputs: Inputs
) -> tuple[dict[str, Estimate], dict[str, int]]:
    """How often the feedback model agrees with people, by way of labelling, on the first 200 comparisons that
    it can read; and the count of those that it cannot.
    """
    shown = [c for c in people if is_readable(inputs.feedback, c, settings.max_tokens)]
    pairs = [ReplyPair(c.prompt, c.first, c.second) for c in shown[:200]]
    agreement = agreement_by_way(shown, label_pairs(run, "agreement", pairs, settings, inputs))
    for way, share in agreement.items():
        run.say(f"{way.replace('_', ' ')} labels agree with people, {against_chance(share)}: {share}")
    unread = "people's comparisons too long for the feedback model to compare"
    return agreement, {unread: len(people) - len(shown)}


def is_readable(feedback: LanguageModel, comparison: Comparison, max_tokens: int) -> bool:
    """Whether both replies, a principle and a thought fit the context of a feedback model in this process."""
    if not isinstance(feedback, TorchModel):
        return True
    both = comparison.prompt.assistant(comparison.first).human(comparison.second)
    return feedback.fits(both, max_tokens=QUESTION + max_tokens)


def label_pairs(
    run: Run, name: str, pairs: Sequence[ReplyPair], settings: Settings, inputs: Inputs
) -> dict[str, list[Comparison]]:
    """Labels by multiple choice in both orders, which the position bias is read off, and by the chosen way if
    another.
    """
    seed = derive(run.seed, "labels")
    ways: dict[str, Labels] = {
        way: judge_of(inputs.feedback, way, inputs.constitution, seed)
        for way in ("multiple_choice", "contrastive")
    }
    ways["reasoned"] = partial(
        label_with_reasoning,
        inputs.feedback,
        constitution=inputs.constitution,
        seed=seed,
        max_tokens=settings.max_tokens,
    )
    chosen = dict.fromkeys(("multiple_choice", settings.label))
    return {way: run.map(f"{name}_{way}", pairs, ways[way], COMPARISONS) for way in chosen}


def judge_of(feedback: LanguageModel, way: str, rules: Constitution, seed: int) -> Labels:
    """The feedback model as a judge under a constitution: contrastive, or else by letter."""
    ask = LABELLERS["contrastive" if way == "contrastive" else "multiple_choice"]
    return partial(ask, feedback, constitution=rules, seed=seed)
