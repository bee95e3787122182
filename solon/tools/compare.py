"""`solon compare MODEL MODEL...`: the same prompts judged by a preference model, or the same evaluations item
by item; paired either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from solon.alignment.preference import PreferenceModel
from solon.tools.measure import Measuring, measure
from solon.data import packaged
from solon.data.published import read_prompts
from solon.errors import InputError
from solon.evaluation.replies import is_refusal
from solon.evaluation.win_rate import paired_win_rate
from solon.models.huggingface import load_classifier
from solon.models.pooled import load_open_pooled
from solon.statistics.intervals import mcnemar, paired_difference
from solon.study.legacy import StudyOptions, answer, parse, say


@dataclass(frozen=True)
class Options(StudyOptions, Measuring):
    """Which of two models a preference model prefers on the same prompts; or, with --on, how two or more
    differ on evaluations.
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """two models; with --on any number, the first being the one that the others are held against (a series of
    checkpoints in order)
    """
    on: tuple[Path, ...] = ()
    """files or folders of evaluations to compare on, item by item"""
    judge: Path | None = None
    """a preference model's folder, as `solon align` writes it (RUN/preference_model)"""
    prompts: Path = packaged.RED_TEAM_HELD_OUT
    samples: int = 1
    """replies to each prompt, for the judge"""
    max_tokens: int = 64
    workers: str = "here"
    """where replies are made for the judge: here, processes:N, ray, ray:N or ray:ADDRESS; they are the same
    """
    preset: Annotated[Literal["quick", "full"], tyro.conf.Suppress] = "quick"


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="compare")
    if len(options.models) < 2 or bool(options.on) == bool(options.judge):
        raise InputError(
            "solon compare needs two models, and either --on with evaluations or --judge with a preference "
            "model"
        )
    if options.on:
        return measure(options, options, options.models, options.on)
    if len(options.models) != 2 or options.judge is None:
        raise InputError(f"a judge compares two models; found {len(options.models)}")
    return judged(options, options.judge, options.models)


def judged(options: Options, folder: Path, names: Sequence[str]) -> int:
    """Both models' replies to the same prompts, scored by the preference model."""
    prompts = list(read_prompts(options.prompts).rows)
    judge = PreferenceModel(folder.name, *load_classifier(folder))
    scores, declined = [], []
    for name in names:
        model = load_open_pooled(options.workers, name, precision=options.precision, say=say)
        say(f"sampling {name}")
        groups = model.sample(
            prompts, count=options.samples, max_tokens=options.max_tokens, seed=options.seed
        )
        flat = judge.score(
            [p for p, group in zip(prompts, groups, strict=True) for _ in group],
            [s.text for group in groups for s in group],
        )
        scores.append(
            [flat[start : start + options.samples] for start in range(0, len(flat), options.samples)]
        )
        declined.append([is_refusal(group[0].text) for group in groups])
    found = paired_win_rate(scores[0], scores[1])
    gap = paired_difference(*([sum(own) / len(own) for own in side] for side in scores))
    change = mcnemar(*declined)
    lines = [
        f"{names[0]} over {names[1]}, {len(prompts)} prompts, judged by {folder}",
        f"win rate          {found.rate}",
        f"score difference  {gap} nats",
        f"refusals          {sum(declined[0])} against {sum(declined[1])} of {len(prompts)} (McNemar p = "
        f"{change.p_value:.3f})",
    ]
    rows = {
        "win_rate": asdict(found.rate),
        "difference": asdict(gap),
        "refusals": asdict(change),
        "ties": found.ties,
    }
    return answer({"first": names[0], "second": names[1], **rows}, "\n".join(lines), as_json=options.json)
