"""What `solon measure` and `solon compare` share: every evaluation's outcomes for every model, kept under the
content of both, so that nothing is ever computed twice; and an evaluation's scores.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from solon.data.evaluations import Evaluation
from solon.errors import InputError
from solon.evaluation.graders import grade_reply
from solon.evaluation.measure import (
    Outcome,
    ReplyOutcome,
    choice_outcomes,
    has_nested_options,
    is_truncated,
    reply_outcomes,
)
from solon.models.base import LanguageModel, derive
from solon.models.dialogue import Transcript
from solon.models.torch_model import TorchModel
from solon.models.trie import build_trie
from solon.records.codecs import Codec
from solon.records.progress import Progress, silent
from solon.records.run import Run, digest
from solon.study.stages import slug
from solon.words.question import Problem, to_question

Form = Literal["auto", "dialogue", "text"]
CHUNK = 256  # problems whose shared beginnings are computed once
Rows = Sequence[Outcome | ReplyOutcome]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Suite:
    """What models are measured on: of every evaluation at most `limit` problems (0: all), drawn by seed,
    after `shots` worked examples that are drawn first and not asked.
    """

    evaluations: tuple[Evaluation, ...]
    shots: int = 0
    limit: int = 0
    seed: int = 0

    def drawn(self, evaluation: Evaluation) -> tuple[list[Problem], list[Problem]]:
        """(examples, problems asked). Raises InputError where there are too few with answers to show."""
        order = sorted(
            evaluation.problems,
            key=lambda own: derive(self.seed, "order", own.text, own.opening, *own.options),
        )
        if self.shots < 0 or self.limit < 0:
            raise InputError(f"--shots and --limit are at least 0; found {self.shots} and {self.limit}")
        examples = [own for own in order if own.answers][: self.shots]
        if len(examples) < self.shots:
            raise InputError(
                f"{evaluation.name} has {len(examples)} problems with answers, too few for {self.shots} "
                "examples"
            )
        # a twin under another subject would be asked with its answer in view
        shown = {(own.text, own.options) for own in examples}
        templates = {own.cluster for own in examples} - {""}
        free = [own for own in order if (own.text, own.options) not in shown and own.cluster not in templates]
        kept = set(map(id, free[: self.limit or None]))
        asked_of = [own for own in evaluation.problems if id(own) in kept]
        if not asked_of:
            raise InputError(f"{evaluation.name} has no problem left beside {self.shots} examples")
        return examples, asked_of


def form_of(model: TorchModel, evaluation: Evaluation, form: Form) -> str:
    """A model with a chat template is spoken to in it; one without, in plain text where the problems open the
    answer, else as Human and Assistant.
    """
    spoken = form_of_dialogue(model, form)
    return spoken if form != "auto" or all(own.opening for own in evaluation.problems) else "dialogue"


def form_of_dialogue(model: TorchModel, form: Form) -> str:
    """The same for problems that open the answer."""
    return form if form != "auto" else "text" if isinstance(model.dialogue, Transcript) else "dialogue"


def measured(
    root: Path,
    model: TorchModel,
    evaluation: Evaluation,
    suite: Suite,
    *,
    form: Form = "auto",
    truncate: bool = False,
    progress: Progress = silent,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda words: None,
) -> Rows:
    """The model's outcome on every problem of an evaluation, read back where the same model was asked the
    same before.
    """
    examples, problems = suite.drawn(evaluation)
    spoken = form_of(model, evaluation, form)
    speaker = model.plain() if spoken == "text" else model
    settings = {"form": spoken, "truncate": truncate}
    # another template or wording is another question
    first = [speaker.dialogue.prompt(to_question(own, examples).prompt) for own in problems[:4]]
    inputs = {"model": model.fingerprint, "asked": digest_of(examples, problems), "prompts": digest(first)}
    about = {
        "model": model.name,
        "evaluation": evaluation.name,
        "kind": evaluation.kind,
        "source": evaluation.reading.source,
    }
    name = f"{model.name[:14]} {evaluation.name[:26]}"
    with Run.open(
        root, "measured", settings, inputs, seed=0, facts=about, progress=progress, stop=stop, say=say
    ) as run:
        if not (run.folder / "rows.jsonl").exists() and problems[0].options:
            say(saved(speaker, examples, problems))

        def make(some: Sequence[Problem]) -> list[dict[str, Any]]:
            if some[0].options:
                return [
                    row_of(own)
                    for own in choice_outcomes(speaker, some, examples=examples, truncate=truncate)
                ]
            return [row_of(own) for own in reply_outcomes(speaker, some, examples=examples)]

        named = replace(run, progress=lambda stage, total, done: progress(name, total, done))
        rows = named.rows("rows", problems, key_of, make, size=CHUNK if problems[0].options else 64)
    return [regraded(read(row), problem) for row, problem in zip(rows, problems, strict=True)]


def regraded(row: Outcome | ReplyOutcome, problem: Problem) -> Outcome | ReplyOutcome:
    """A kept reply is graded as it is read back, so that a better grader needs no model."""
    return replace(row, correct=grade_reply(problem, row.text)) if isinstance(row, ReplyOutcome) else row


def key_of(problem: Problem) -> str:
    return problem.key


def digest_of(examples: Sequence[Problem], problems: Sequence[Problem]) -> str:
    words = json.dumps([[asdict(own) for own in some] for some in (examples, problems)], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def row_of(own: Outcome | ReplyOutcome) -> dict[str, Any]:
    return {"item": own.key, **{name: value for name, value in asdict(own).items() if name != "key"}}


def read(row: Mapping[str, Any]) -> Outcome | ReplyOutcome:
    """A kept row as an outcome again: what re-scoring begins with."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in row.items()
        if name not in ("key", "item")
    }
    return (
        Outcome(key=row["item"], **fields) if "logprobs" in row else ReplyOutcome(key=row["item"], **fields)
    )


def outcome_of(row: Mapping[str, Any]) -> Outcome:
    """A kept row of a problem with options. Raises InputError where it is a free reply."""
    outcome = read(row)
    if not isinstance(outcome, Outcome):
        raise InputError(f"the kept row of {row['item']} is a free reply, not an outcome over options")
    return outcome


OUTCOMES: Codec[Any, Outcome] = Codec(lambda problem, outcome: row_of(outcome), outcome_of)


def choice_stage(
    run: Run,
    name: str,
    model: LanguageModel,
    problems: Sequence[Problem],
    *,
    examples: Sequence[Problem] = (),
    size: int = 128,
) -> list[Outcome]:
    """A model's outcome on every problem with options after the same examples, kept as a stage."""

    def make(batch: Sequence[Problem]) -> list[Outcome]:
        return choice_outcomes(model, batch, examples=examples)

    return run.map(slug(name), problems, make, OUTCOMES, size=size)


def saved(model: TorchModel, examples: Sequence[Problem], problems: Sequence[Problem]) -> str:
    """How many tokens will be computed, and how many are not since prompts and options share them."""
    whole = unique = 0
    for start in range(0, len(problems), CHUNK):
        questions = [to_question(own, examples) for own in problems[start : start + CHUNK]]
        flat = [(question.prompt, own) for question in questions for own in question.choices]
        planned = [
            request
            for request, _ in model.requests(
                [prompt for prompt, _ in flat], [own for _, own in flat], truncate=True
            )
        ]
        whole += sum(len(prompt) + len(reply) for prompt, reply in planned)
        unique += build_trie(planned).unique_tokens
    return f"{whole} tokens asked, {unique} computed: {whole - unique} saved ({whole / max(unique, 1):.1f}x)"


def counted(evaluation: Evaluation, suite: Suite, rows: Rows) -> dict[str, int]:
    """What was left out, and what makes rows less than they seem."""
    examples, problems = suite.drawn(evaluation)
    found = {
        f"left out while reading: {reason}": count for reason, count in evaluation.reading.counts().items()
    }
    found["shown as examples, not asked"] = len(examples)
    found["not drawn"] = len(evaluation.problems) - len(examples) - len(problems)
    chosen, said = (
        [row for row in rows if isinstance(row, Outcome)],
        [row for row in rows if isinstance(row, ReplyOutcome)],
    )
    found["ties between the likeliest options, the first taken"] = sum(row.tied for row in chosen)
    found["prompts cut on the left to fit"] = sum(row.cut > 0 for row in chosen)
    found["problems one of whose options begins another"] = sum(has_nested_options(own) for own in problems)
    found["replies that could not be judged"] = sum(row.correct is None for row in said)
    found["replies cut at their last token"] = sum(is_truncated(row) for row in said)
    found |= {
        f"unscored: {reason}": count
        for reason, count in Counter(row.tags.get("unscored", "") for row in rows).items()
        if reason
    }
    return {name: count for name, count in found.items() if count}
