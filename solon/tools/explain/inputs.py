"""What `solon explain` reads of a finished run: what its model imitated, and what its preference model
learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from solon.alignment.preference import PreferenceModel
from solon.data.published import read_comparisons
from solon.data.rows import from_messages
from solon.errors import InputError
from solon.interpretability.curvature import Objective
from solon.interpretability.objectives import (
    DialoguePair,
    comparison_objective,
    language_objective,
    reward_loss,
)
from solon.models.base import Stop
from solon.models.dialogue import Dialogue
from solon.models.huggingface import load_classifier
from solon.models.torch_model import TorchModel
from solon.models.trie import ScoreRequest
from solon.records.codecs import to_drafts
from solon.records.report import Report
from solon.records.run import Run, digest
from solon.study.conduct import Finished, conduct, open_model
from solon.study.fingerprint import content_hash, model_key
from solon.study.options import RunName, RunOptions
from solon.study.runs import find_run, label_rows, stage_rows
from solon.tools.explain.report import report
from solon.tools.explain.study import Settings, Source, explain_all
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation


@dataclass(frozen=True)
class Options(RunOptions):
    """Hold a finished `solon align` run's revisions, helpful replies and comparisons against a reply of its
    final model.
    """

    run: RunName = ""
    """a run's folder, or the beginning of its name"""
    prompt: str = ""
    """what the human said"""
    reply: tuple[str, ...] = ()
    """what the model said, or might say; several are explained side by side"""
    comparisons: Path | None = None
    """people's comparisons that the preference model learned from, besides the run's own labels"""
    settings: Settings = field(default_factory=Settings)


def explain(options: Options, *, argv: Sequence[str] = ()) -> Finished:
    """A run that holds a finished run's training rows against replies of its final model."""
    if (
        not options.run
        or not options.prompt.strip()
        or not all(map(str.strip, options.reply))
        or not options.reply
    ):
        raise InputError("solon explain needs a run, --prompt and --reply, none of them empty")
    folder = find_run(options.runs, options.run)
    if not (folder / "drafts.jsonl").exists():
        raise InputError(f"{folder} is no run of solon align: it holds no drafts.jsonl")
    if not (folder / "report.json").exists() or not (folder / "model").exists():
        raise InputError(
            f"{folder} has no finished model to explain; the command that began it goes on from what is there"
        )
    counts = dict[str, int]()
    conversation = Conversation().human(options.prompt)
    model = open_model(str(folder / "model"), "float32")
    sources: list[Source[Any]] = [imitated(folder, model, conversation, options.reply, counts)]
    scored = preferred(folder, conversation, options.reply, options.comparisons, counts)
    sources += [scored] if scored is not None else []
    inputs = {"model": model_key(model), "reply": digest(options.prompt, *options.reply)}
    inputs |= {f"rows {source.name}": digest(source.rows) for source in sources}
    inputs |= {"preference model": content_hash(folder / "preference_model")} if scored is not None else {}
    questions = [(options.prompt, reply) for reply in options.reply]

    def work(run: Run) -> Report:
        explained = explain_all(run, options.settings, sources)
        return report(options.settings, explained, questions, counts)

    settings = asdict(options.settings)
    return conduct("explain", options, work, settings=settings, inputs=inputs, subject=model.name, argv=argv)


def imitated(
    folder: Path, model: TorchModel, talk: Conversation, replies: Sequence[str], counts: dict[str, int]
) -> Source[ScoreRequest]:
    """What the supervised stage imitated: the revisions of every round, and the start's own helpful
    replies.
    """
    drafts = [to_drafts(row) for row in stage_rows(folder, "drafts")]
    said = [
        (own.prompt, turn.revision, turn.finished, f"revision {number + 1}")
        for own in drafts
        for number, turn in enumerate(own.rounds)
    ]
    firsts = [(from_messages(row["prompt"]), row["replies"][0]) for row in stage_rows(folder, "helpful")]
    said += [(prompt, own["text"], own["stop"] != Stop.LENGTH.value, "helpful") for prompt, own in firsts]
    form = model.dialogue
    rows, titles = list[ScoreRequest](), list[str]()
    for prompt, text, finished, kind in said:  # as the supervised stage has them
        given = (
            (form.prompt(prompt), form.reply(prompt, text) + (form.end if finished else ()))
            if text.strip()
            else ((), ())
        )
        if not given[1] or len(given[0]) + len(given[1]) > model.context:
            counts["rows that are empty or too long for the context, left out"] = (
                counts.get("rows that are empty or too long for the context, left out", 0) + 1
            )
            continue
        rows.append(given)
        titles.append(f"{kind}: {prompt.last} -> {text}")
    if not rows:
        raise InputError(f"{folder} holds no revision to explain by")
    asked = tuple((form.prompt(talk), form.reply(talk, reply)) for reply in replies)
    longest = max(len(prompt) + len(reply) for prompt, reply in asked)
    if longest > model.context:
        raise InputError(
            f"prompt and reply have {longest} tokens, over the model's context of {model.context}"
        )
    objective = language_objective(model.module)
    return Source(
        "revisions and replies",
        objective,
        tuple(rows),
        tuple(titles),
        # the token before the predicted one, as the paper shows it
        lambda own: spelled(form, own[0] + own[1])[:-1],
        lambda own: own[0] + own[1],
        asked,
        objective,
    )


def preferred(
    folder: Path, talk: Conversation, replies: Sequence[str], path: Path | None, counts: dict[str, int]
) -> Source[Any] | None:
    """What the preference model learned from, held against its score of the reply; None where the run kept
    none.
    """
    if not (folder / "preference_model").exists():
        return None
    judge = PreferenceModel(
        "preference model", *load_classifier(folder / "preference_model", precision=torch.float32)
    )
    learned: list[Comparison] = label_rows(folder)
    if path is not None:
        learned += read_comparisons(path).rows
    fitting = [own for own in learned if judge.fits_context(own)]
    counts["comparisons too long for the preference model, left out"] = len(learned) - len(fitting)
    if not fitting:
        return None
    groups = [judge.group(own) for own in fitting]
    rows = tuple(
        (prompt + first, prompt + second, own.p_first)
        for (prompt, (first, second)), own in zip(groups, fitting, strict=True)
    )
    titles = tuple(
        f"P(first) {own.p_first:.2f}: {own.prompt.last} -> (1) {own.first} (2) {own.second}"
        for own in fitting
    )
    objective, form = comparison_objective(judge.scalar), judge.dialogue
    spoken = [form.prompt(talk) + form.reply(talk, reply) + form.context_end for reply in replies]
    score = reward_loss(judge.scalar)

    def scored(some: Sequence[DialoguePair]) -> torch.Tensor:
        return score([own[0] for own in some])

    asked: Objective[DialoguePair] = Objective(
        judge.scalar, scored, lambda some, generator: scored(some), lambda own: len(own[0])
    )
    longest = max(max(len(a), len(b)) for a, b, _ in rows)

    def pair(own: tuple[tuple[int, ...], tuple[int, ...], float]) -> list[str]:
        """Both dialogues, one after the other, each padded to the longer."""
        room = max(len(own[0]), len(own[1]))
        return [word for side in own[:2] for word in [*spelled(form, side), *[""] * (room - len(side))]]

    if max(map(len, spoken)) > judge.scalar.backbone.context or longest > judge.scalar.backbone.context:
        raise InputError("the reply is too long for the preference model's context")
    return Source(
        "comparisons",
        objective,
        rows,
        titles,
        pair,
        lambda own: own[0] + own[1],
        tuple((own, own, 0.5) for own in spoken),
        asked,
    )


def spelled(form: Dialogue, tokens: Sequence[int]) -> list[str]:
    """The text of each token, or its number where the form has no tokenizer."""
    tokenizer = getattr(form, "tokenizer", None)
    return [str(tokenizer.decode([token])) if tokenizer is not None else f"{token} " for token in tokens]
