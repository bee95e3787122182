"""Logs of Inspect: outcomes written as a log that `inspect view` opens, and logs read with their unscored
samples counted. An extra (`pip install 'solon[inspect]'`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalMetric,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    EvalStats,
    read_eval_log,
    write_eval_log,
)
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, ModelOutput
from inspect_ai.scorer import Score

from solon.data.evaluations import Evaluation
from solon.data.published import ParsedFile
from solon.errors import InputError
from solon.evaluation.measure import Outcome, ReplyOutcome
from solon.evaluation.scores import accuracy
from solon.models.base import Stop
from solon.words.question import Problem, choice_label, to_question

SCORER = "solon"
KINDS: dict[str, Any] = {
    "human": ChatMessageUser,
    "assistant": ChatMessageAssistant,
    "system": ChatMessageSystem,
}


def write_log(
    path: Path,
    evaluation: Evaluation,
    problems: Sequence[Problem],
    rows: Sequence[Outcome | ReplyOutcome],
    *,
    model: str,
    examples: Sequence[Problem] = (),
    about: Mapping[str, Any] | None = None,
) -> None:
    """Writes one sample for each problem: its dialogue, the answer, its score where an answer is right, and
    raw log-probabilities (nats) as metadata. A sample's id is the row's key, so that logs of the same items
    can be paired. `about` is added to the log's metadata.
    """
    seen: Counter[str] = Counter()
    samples = []
    for problem, row in zip(problems, rows, strict=True):
        seen[row.key] += 1
        name = row.key if seen[row.key] == 1 else f"{row.key}-{seen[row.key]}"
        samples.append(_sample(name, problem, row, model, examples))
    scored = [row for row in rows if row.correct is not None]
    metrics = {}
    if scored:
        estimate = accuracy(rows)
        values = {"accuracy": estimate.value, "interval_low": estimate.low, "interval_high": estimate.high}
        metrics = {name: EvalMetric(name=name, value=value) for name, value in values.items()}
    score = EvalScore(
        name=SCORER,
        scorer=SCORER,
        scored_samples=len(scored),
        unscored_samples=len(rows) - len(scored),
        metrics=metrics,
    )
    dataset = EvalDataset(
        name=evaluation.name,
        location=evaluation.reading.source,
        samples=len(samples),
        sample_ids=[sample.id for sample in samples],
    )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    metadata = {"form": evaluation.kind, "measure": evaluation.measure, **(about or {})}
    spec = EvalSpec(
        created=created,
        task=evaluation.name,
        task_id=evaluation.digest,
        dataset=dataset,
        model=f"solon/{model}",
        config=EvalConfig(),
        metadata=metadata,
    )
    results = EvalResults(total_samples=len(samples), completed_samples=len(samples), scores=[score])
    path.parent.mkdir(parents=True, exist_ok=True)
    stats = EvalStats(started_at=created, completed_at=created)
    write_eval_log(
        EvalLog(status="success", eval=spec, results=results, stats=stats, samples=samples), str(path)
    )


def _sample(
    name: str, problem: Problem, row: Outcome | ReplyOutcome, model: str, examples: Sequence[Problem]
) -> EvalSample:
    if isinstance(row, Outcome):
        given_answer = choice_label(row.chosen) if problem.lettered else row.options[row.chosen]
        more: dict[str, Any] = {
            "log_probabilities": list(row.logprobs),
            "belief": list(row.belief),
            "option_mass": row.mass,
            "tokens": list(row.tokens),
        }
        target: str | list[str] = (
            ""
            if row.right is None
            else choice_label(row.right)
            if problem.lettered
            else row.options[row.right]
        )
    else:
        given_answer, target = row.text, list(problem.answers)
        more = {"stop": row.stop, "log_probability": row.logprob}
    turns = to_question(problem, examples).prompt.turns
    messages = [
        KINDS[turn.role](content=turn.text) for turn in turns if turn is not turns[-1] or turn.role == "human"
    ]
    answer = ChatMessageAssistant(content=f"{problem.opening} {given_answer}".strip(), source="generate")
    scores = (
        {}
        if row.correct is None
        else {SCORER: Score(value="C" if row.correct else "I", answer=given_answer, metadata=more)}
    )
    return EvalSample(
        id=name,
        epoch=1,
        input=messages or problem.opening,
        choices=list(problem.options) or None,
        target=target,
        messages=[*messages, answer],
        output=ModelOutput.from_content(f"solon/{model}", given_answer),
        scores=scores,
        metadata={
            **problem.tags,
            "cluster": row.cluster,
            "opening": problem.opening,
            **({} if scores else more),
        },
    )


@dataclass(frozen=True, slots=True)
class InspectLog:
    """A log as an evaluation and its rows. A row is a sample in one epoch; a sample's epochs form a
    cluster.
    """

    model: str
    scorer: str
    evaluation: Evaluation
    rows: tuple[ReplyOutcome, ...]


def read_log(path: Path, *, scorer: str = "") -> InspectLog:
    """A log's samples as graded rows. Rows without a grade have the reason in the tag "unscored": the sample
    failed, has no score or one that is neither right nor wrong, or is in the log's data set and not in the
    log.

    Raises InputError on a file that is no log, a log without samples, an unknown scorer, and several scorers
    of which none is named.
    """
    try:
        log = read_eval_log(str(path))
    except Exception as error:  # the reader raises many kinds
        raise InputError(
            f"{path} is no log that Inspect can read: {type(error).__name__}: {error}"
        ) from error
    samples = log.samples or []
    names = sorted({name for sample in samples for name in sample.scores or {}})
    if scorer and scorer not in names:
        raise InputError(f"{path} has the scorers {', '.join(names) or 'none'}; not {scorer!r}")
    if not scorer and len(names) > 1:
        raise InputError(f"{path} has several scorers, {', '.join(names)}: choose one with --scorer")
    chosen = scorer or (names[0] if names else "")
    problems = [
        Problem(_asked(sample), (), tuple(_targets(sample)), cluster=_cluster(sample)) for sample in samples
    ]
    rows = [_row(sample, chosen) for sample in samples]
    for name, epoch in _missing(log):
        problems.append(Problem(f"(sample {name}, which the log does not hold)", (), (), cluster=name))
        rows.append(_unscored(name, epoch, name, "", "the log does not hold the sample"))
    if not rows:
        raise InputError(f"{path} holds no sample")
    evaluation = Evaluation(
        log.eval.task,
        f"Inspect log, {chosen or 'no scorer'}",
        "accuracy",
        ParsedFile(str(path), tuple(problems), ()),
    )
    return InspectLog(log.eval.model, chosen, evaluation, tuple(rows))


def _missing(log: EvalLog) -> list[tuple[str, int]]:
    """(id, epoch) of samples in the log's data set that are not in the log; numbered where ids are
    unknown.
    """
    logged = {(str(sample.id), sample.epoch) for sample in log.samples or []}
    epochs, dataset = log.eval.config.epochs or 1, log.eval.dataset
    named = [
        (str(identifier), epoch) for identifier in dataset.sample_ids or [] for epoch in range(1, epochs + 1)
    ]
    missing = [pair for pair in named if pair not in logged]
    limit = log.eval.config.limit
    most = limit if isinstance(limit, int) else limit[1] - limit[0] if limit else dataset.samples or 0
    total = max(
        log.results.total_samples if log.results is not None else 0, min(dataset.samples or 0, most) * epochs
    )
    return missing + [(f"not told {number}", 1) for number in range(total - len(logged) - len(missing))]


def _cluster(sample: EvalSample) -> str:
    """The cluster in the metadata of Solon's logs, else the sample's id."""
    return str(sample.metadata.get("cluster") or sample.id)


def _asked(sample: EvalSample) -> str:
    if isinstance(sample.input, str):
        return sample.input
    return "\n\n".join(message.text for message in sample.input if message.role == "user")


def _targets(sample: EvalSample) -> list[str]:
    return [
        target for target in ([sample.target] if isinstance(sample.target, str) else sample.target) if target
    ]


def _row(sample: EvalSample, scorer: str) -> ReplyOutcome:
    name, cluster, text = str(sample.id), _cluster(sample), sample.output.completion
    if sample.error is not None:
        return _unscored(name, sample.epoch, cluster, text, "the sample failed")
    score = (sample.scores or {}).get(scorer)
    if score is None:
        return _unscored(name, sample.epoch, cluster, text, "no score")
    correct = _right(score.value)
    if correct is None:
        return _unscored(
            name,
            sample.epoch,
            cluster,
            text,
            f"a score that is neither right nor wrong: {_shown(score.value)}",
        )
    cut = bool(sample.output.choices) and sample.output.stop_reason in ("max_tokens", "model_length")
    return ReplyOutcome(
        f"{name} epoch {sample.epoch}",
        cluster,
        text,
        correct,
        (Stop.LENGTH if cut else Stop.END).value,
        math.nan,
        0,
    )


def _unscored(name: str, epoch: int, cluster: str, text: str, reason: str) -> ReplyOutcome:
    return ReplyOutcome(
        f"{name} epoch {epoch}", cluster, text, None, Stop.END.value, math.nan, 0, {"unscored": reason}
    )


def _right(value: Any) -> bool | None:
    """Whether a score is full credit; None for partial credit, no answer, NaN and scores of several
    values.
    """
    if isinstance(value, str):
        return {"C": True, "I": False}.get(value.strip())
    if isinstance(value, bool):
        return value
    return {1.0: True, 0.0: False}.get(float(value)) if isinstance(value, int | float) else None


def _shown(value: Any) -> str:
    return (
        value
        if isinstance(value, str)
        else "a number between or beyond"
        if isinstance(value, int | float)
        else "several values"
    )
