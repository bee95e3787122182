"""`solon compare MODEL MODEL ...`: the same prompts judged by a preference model, or the same evaluations
item by item; paired either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from solon.alignment.preference import PreferenceModel
from solon.data.published import read_prompts
from solon.errors import InputError
from solon.models.huggingface import load_classifier
from solon.models.pooled import load_open_pooled
from solon.study.conduct import show
from solon.study.console import answer, say
from solon.study.options import parse
from solon.tools.compare import Options, judge_models
from solon.tools.measure import measure


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="compare")
    if len(options.models) < 2 or bool(options.on) == bool(options.judge):
        raise InputError(
            "solon compare needs two models, and either --on with evaluations or --judge with a preference "
            "model"
        )
    if options.on:
        finished = measure(options, options, options.models, options.on, argv=["solon", "compare", *argv])
        return show("compare", finished, options, as_json=options.json)
    if len(options.models) != 2 or options.judge is None:
        raise InputError(f"a judge compares two models; found {len(options.models)}")
    return judged(options)


def judged(options: Options) -> int:
    """Two models by the judge, printed."""
    assert options.judge is not None
    prompts = read_prompts(options.prompts).rows
    first, second = options.models
    open_it = partial(load_open_pooled, options.workers, precision=options.precision, say=say)
    result = judge_models(
        PreferenceModel(options.judge.name, *load_classifier(options.judge)),
        [partial(open_it, first), partial(open_it, second)],
        prompts,
        samples=options.samples,
        max_tokens=options.max_tokens,
        seed=options.seed,
    )
    refused, p_value = result.refusals, result.refusal_change.p_value
    lines = [
        f"{first} over {second}, {len(prompts)} prompts, judged by {options.judge}",
        f"win rate          {result.wins.rate}",
        f"score difference  {result.difference} nats",
        f"refusals          {refused[0]} against {refused[1]} of {len(prompts)} (McNemar p = {p_value:.3f})",
    ]
    values = {
        "first": first,
        "second": second,
        "win_rate": asdict(result.wins.rate),
        "difference": asdict(result.difference),
        "refusals": asdict(result.refusal_change),
        "ties": result.wins.ties,
    }
    return answer(values, "\n".join(lines), as_json=options.json)
