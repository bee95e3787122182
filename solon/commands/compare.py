"""`solon compare MODEL MODEL`: both on the same prompts, judged by a preference model, paired by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from solon.alignment.preference import PreferenceModel
from solon.commands.common import answer, parse, say
from solon.data import packaged
from solon.data.published import read_prompts
from solon.evaluation.duel import duel
from solon.evaluation.replies import refuses
from solon.models.huggingface import load_classifier
from solon.models.spread import spread_open
from solon.statistics import mcnemar, paired_difference


@dataclass(frozen=True)
class Options:
    """Which of two models a preference model prefers on the same prompts, with a paired interval."""

    first: Annotated[str, tyro.conf.Positional]
    second: Annotated[str, tyro.conf.Positional]
    judge: Path
    """a preference model's folder, as `solon align` writes it (RUN/preference_model)"""
    prompts: Path = packaged.RED_TEAM_HELD_OUT
    samples: int = 1
    """replies to each prompt"""
    max_tokens: int = 64
    seed: int = 0
    on: str = "here"
    """where replies are made: here, processes:N, ray, ray:N or ray:ADDRESS; they are the same"""
    precision: str = "auto"
    json: bool = False


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="compare")
    prompts = list(read_prompts(options.prompts).rows)
    judge = PreferenceModel(options.judge.name, *load_classifier(options.judge))
    scores, declined = [], []
    for name in (options.first, options.second):
        model = spread_open(options.on, name, precision=options.precision, say=say)
        say(f"sampling {name}")
        groups = model.sample(prompts, count=options.samples, max_tokens=options.max_tokens, seed=options.seed)
        flat = judge.score([p for p, group in zip(prompts, groups, strict=True) for _ in group], [s.text for group in groups for s in group])
        scores.append([flat[start : start + options.samples] for start in range(0, len(flat), options.samples)])
        declined.append([refuses(group[0].text) for group in groups])
    found = duel(scores[0], scores[1])
    gap = paired_difference(*([sum(own) / len(own) for own in side] for side in scores))
    change = mcnemar(*declined)
    lines = [
        f"{options.first} over {options.second}, {len(prompts)} prompts, judged by {options.judge}",
        f"win rate          {found.rate}",
        f"score difference  {gap} nats",
        f"refusals          {sum(declined[0])} against {sum(declined[1])} of {len(prompts)} (McNemar p = {change.p_value:.3f})",
    ]
    rows = {"win_rate": asdict(found.rate), "difference": asdict(gap), "refusals": asdict(change), "ties": found.ties}
    return answer({"first": options.first, "second": options.second, **rows}, "\n".join(lines), as_json=options.json)
