"""HH-RLHF's iterated online training: rounds with the newest policy against one round of as many comparisons
(section 4.5).
"""

from __future__ import annotations

import random
from dataclasses import replace

from solon.alignment.feedback import ReplyPair
from solon.alignment.preference import PreferenceModel
from solon.errors import InputError
from solon.models.base import derive
from solon.models.torch_model import TorchModel
from solon.records.run import Run
from solon.studies.helpful_harmless.inputs import Inputs
from solon.studies.helpful_harmless.settings import Settings
from solon.studies.helpful_harmless.tournament import annotate_pairs
from solon.study.stages import alternated, reinforce, replies, train_preference_model
from solon.words.comparison import Comparison


def iterated(
    run: Run,
    base: TorchModel,
    unlearned: PreferenceModel,
    inputs: Inputs,
    settings: Settings,
    *,
    counts: dict[str, int],
) -> dict[str, TorchModel]:
    """A policy of one round, "once", and one of several, "online"; none where no one compares."""
    if inputs.annotate is None or not settings.rounds:
        return {}
    return {
        name: iterate(run, name, base, unlearned, inputs, settings=settings, rounds=rounds, counts=counts)
        for name, rounds in (("once", 1), ("online", settings.rounds))
    }


def iterate(
    run: Run,
    name: str,
    base: TorchModel,
    unlearned: PreferenceModel,
    inputs: Inputs,
    *,
    settings: Settings,
    rounds: int,
    counts: dict[str, int],
) -> TorchModel:
    """Rounds of: replies by the newest policy, compared; then a new preference model on all comparisons so
    far and a new policy, both from scratch. All rounds together make as many comparisons as one round alone
    would. Raises InputError where too few could be told apart.
    """
    policy, known = base, list[Comparison]()
    for number in range(1, rounds + 1):
        stage, wanted = f"{name}_{number}", settings.round_pairs // rounds
        known += compare_replies(run, stage, policy, inputs, settings, wanted=wanted, counts=counts)
        if len(known) < 8:
            raise InputError(
                f"{wanted} pairs of replies gave {len(known)} that {inputs.annotator} could tell apart; "
                "raise round_pairs or max_tokens"
            )
        model = train_preference_model(
            run, replace(unlearned, name=f"{stage}_pm"), alternated(known), settings
        )
        seed = derive(run.seed, stage)
        policy = reinforce(run, f"{stage}_policy", base, inputs.prompts, model, settings=settings, seed=seed)
    return policy


def compare_replies(
    run: Run,
    name: str,
    policy: TorchModel,
    inputs: Inputs,
    settings: Settings,
    *,
    wanted: int,
    counts: dict[str, int],
) -> list[Comparison]:
    """So many pairs of a policy's replies to prompts of reinforcement, compared; what the annotator was
    unsure of is left out.
    """
    assert inputs.annotate is not None
    each = -(-wanted // len(inputs.prompts))  # pairs a prompt
    asked = random.Random(derive(run.seed, name)).sample(inputs.prompts, -(-wanted // each))
    groups = replies(run, f"{name}_replies", policy, asked, count=2 * each, max_tokens=settings.max_tokens)
    pairs = [
        ReplyPair(prompt, one.text, two.text)
        for prompt, group in zip(asked, groups, strict=True)
        for one, two in zip(group[::2], group[1::2], strict=True)
    ]
    labels = annotate_pairs(run, f"{name}_labels", pairs[:wanted], inputs.annotate)
    decided = [label for label in labels if abs(label.p_first - 0.5) > settings.unsure]
    unsure = f"pairs of {name} that were equal, or that {inputs.annotator} was unsure of (not learned)"
    counts[unsure] = len(labels) - len(decided)
    return decided
