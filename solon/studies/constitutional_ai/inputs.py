"""`solon align [MODEL]`: the main job from files to a report, a model, an adapter and a preference model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from solon.alignment.critique import CritiqueExample
from solon.alignment.preference import PreferenceModel
from solon.data import packaged
from solon.data.published import first_human_text, read_comparisons, read_prompts, split_by_opening
from solon.data.rows import comparison_to_row
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.models.adapters import adapter_layers
from solon.models.backbones.small import SmallTransformer
from solon.models.backbones.small_files import save_small
from solon.models.base import LanguageModel
from solon.models.huggingface import export, export_adapter, export_classifier
from solon.models.pooled import load_open_pooled
from solon.models.torch_model import TorchModel
from solon.records import index
from solon.records.progress import silent, spoken
from solon.records.report import Report, terminal
from solon.records.run import Run, digest
from solon.studies.constitutional_ai.settings import Inputs, Settings, full, quick
from solon.studies.constitutional_ai.study import study
from solon.study.legacy import (
    answer,
    finite,
    interruptible,
    parse,
    preset_of,
    run_metadata,
    say,
    skipped_counts,
    write_report,
)
from solon.training.fit import shuffled_batch
from solon.training.parallel import World, init_distributed, shutdown
from solon.words.constitution import Principle, read_constitution
from solon.words.conversation import Conversation


@dataclass(frozen=True)
class Align:
    """Align a model to a written constitution, and report what changed on prompts that nothing was trained
    on.
    """

    model: Annotated[str, tyro.conf.Positional] = "smollm2"
    """smollm2, gemma3-270m, a model folder, or a hub id"""
    constitution: Path = packaged.CONSTITUTION
    """a text file of principles (see docs/tutorial.md)"""
    prompts: Path = packaged.RED_TEAM
    """red-team prompts: text, JSONL, CSV or Parquet, hh-rlhf among them"""
    held_out_prompts: Path | None = None
    """prompts for the evidence; without it, part of --prompts is held out by dialogue"""
    helpful: Path = packaged.HELPFUL
    """prompts that keep the model helpful; a quarter is held out"""
    comparisons: Path | None = None
    """people's comparisons, as hh-rlhf pairs or own rows: mixed into the preference model, and into a judge
    apart
    """
    feedback: str = ""
    """the model that gives AI feedback; by default the one that is aligned"""
    train: int = 0
    """how many prompts to train on; 0: 32 in quick, all in full"""
    held_out: int = 0
    """how many prompts to hold out; 0: 32 in quick, a quarter in full"""
    preset: Literal["quick", "full"] = "quick"
    """quick is minutes on two cores, full the paper's shape; every setting below can be changed on top"""
    seed: int = 0
    workers: str = "here"
    """where drafts and labels are made: here, processes:N, ray, ray:N or ray:ADDRESS; labels may differ in
    rounding
    """
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    runs: Path = Path("runs")
    """where run folders are kept; the same command again goes on from what is there"""
    json: bool = False
    """end with one JSON object on standard output"""
    settings: Settings = field(default_factory=quick)


def main(argv: Sequence[str]) -> int:
    preset = preset_of(argv)
    options = parse(
        Align,
        argv,
        command="align",
        default=Align(preset=preset, settings={"quick": quick, "full": full}[preset]()),
    )
    with init_distributed() as world:
        status = aligned(options, world)
    return shutdown(status)


def aligned(options: Align, world: World) -> int:
    """The job, in one process or (started by torchrun) in several, of which the first writes and speaks."""
    began, first = time.monotonic(), not world.rank
    inputs = read_inputs(options)
    start = load_open_pooled(options.workers, options.model, precision=options.precision, say=say)
    feedback = (
        load_open_pooled(options.workers, options.feedback, precision=options.precision, say=say)
        if options.feedback
        else start
    )
    inputs = fitting(inputs, start, feedback, options.settings)
    with (
        interruptible() as stop,
        Run.open(
            options.runs,
            "constitutional_ai",
            asdict(options.settings),
            hashes(inputs, start, feedback),
            seed=options.seed,
            facts=run_metadata(options.model, options.preset),
            progress=spoken() if first else silent,
            stop=stop,
            say=say if first else lambda words: None,
            world=world,
        ) as run,
    ):
        if first:
            say(f"run folder {run.folder}")
            index.began(
                options.runs,
                run.folder,
                study="constitutional_ai",
                preset=options.preset,
                seed=options.seed,
                model=start.name,
                started=time.time(),
            )
        report, policy, reward = study(run, options.settings, inputs, start=start, feedback=feedback)
        if not first:
            return 0
        finish(run, report, policy, reward)
        seconds = round(time.monotonic() - began, 1)
        claims = [finite(claim.row()) for claim in report.claims]
        index.ended(options.runs, run.folder, seconds=seconds, claims=claims)
    human = f"{terminal(report)}\n\nreport  {run.folder / 'report.html'}\nmodel   {run.folder / 'model'}"
    found = {
        "study": "constitutional_ai",
        "preset": options.preset,
        "seed": options.seed,
        "seconds": seconds,
        "run": str(run.folder),
        "claims": claims,
    }
    return answer(found, human, as_json=options.json)


def read_inputs(options: Align) -> Inputs:
    """Files to words. Everything left out is counted."""
    prompts = read_prompts(options.prompts)
    helpful = read_prompts(options.helpful)
    counts = skipped_counts(prompts, "prompts") | skipped_counts(helpful, "helpful prompts")
    apart = options.held_out_prompts
    if apart is None and options.prompts == packaged.RED_TEAM:
        apart = packaged.RED_TEAM_HELD_OUT
    kept = read_prompts(apart) if apart else None
    train, held_out = sizes(options, len(prompts.rows), len(kept.rows) if kept else None)
    red = shuffled_batch(prompts.rows, size=len(prompts.rows), seed=options.seed, number=1)
    if kept is None:
        training, testing = split_by_opening(red, first_human_text, [train, held_out])
    else:
        counts |= skipped_counts(kept, "held-out prompts")
        training, testing = red[:train], shuffled_batch(kept.rows, size=held_out, seed=options.seed, number=1)
    useful, useful_test = helpful_parts(options, helpful.rows)
    taught, kept_back = (
        {first_human_text(p) for p in (*training, *useful)},
        {first_human_text(p) for p in (*testing, *useful_test)},
    )
    if taught & kept_back:
        raise InputError(
            f"{len(taught & kept_back)} dialogues are both trained on and held out, "
            f"{sorted(taught & kept_back)[0]!r} among them"
        )
    comparisons = read_comparisons(options.comparisons, axis="harmless") if options.comparisons else None
    if comparisons is not None:
        counts |= skipped_counts(comparisons, "comparisons")
    return Inputs(
        read_constitution(options.constitution),
        tuple(training),
        tuple(testing),
        useful,
        useful_test,
        comparisons.rows if comparisons else (),
        read_examples(),
        tuple(counts.items()),
    )


def sizes(options: Align, prompts: int, apart: int | None) -> tuple[int, int]:
    """How many prompts to train on and to hold out. Raises InputError where there are not that many."""
    quick_ = options.preset == "quick"
    held_out = options.held_out or (min(32, apart or prompts // 3) if quick_ else apart or prompts // 4)
    room = prompts if apart is not None else prompts - held_out
    train = options.train or (min(32, room) if quick_ else room)
    if train > room or (apart is not None and held_out > apart) or min(train, held_out) < 4:
        raise InputError(
            f"{prompts} prompts do not give {train} to train on and {held_out} to hold out (at least 4 of "
            "each)"
        )
    return train, held_out


def helpful_parts(
    options: Align, rows: Sequence[Conversation]
) -> tuple[tuple[Conversation, ...], tuple[Conversation, ...]]:
    """Helpful prompts to train on and to hold out: half as many as red-team ones in quick, all in full."""
    if options.helpful == packaged.HELPFUL:
        train, test = tuple(rows), read_prompts(packaged.HELPFUL_HELD_OUT).rows
    else:
        names = sorted({first_human_text(row) for row in rows})
        kept = set(shuffled_batch(names, size=max(1, len(names) // 4), seed=options.seed, number=1))
        train, test = (
            tuple(row for row in rows if first_human_text(row) not in kept),
            tuple(row for row in rows if first_human_text(row) in kept),
        )
    most = (20, 20) if options.preset == "quick" else (len(train), len(test))
    picked = (
        shuffled_batch(train, size=len(train), seed=options.seed, number=1),
        shuffled_batch(test, size=len(test), seed=options.seed, number=1),
    )
    return tuple(picked[0][: most[0]]), tuple(picked[1][: most[1]])


def read_examples() -> tuple[CritiqueExample, ...]:
    rows = [row for _, row in read_rows(packaged.CRITIQUE_EXAMPLES)]
    return tuple(
        CritiqueExample(
            row["request"],
            row["reply"],
            Principle(row["name"], row["critique_request"], row["revision_request"]),
            row["critique"],
            row["revision"],
        )
        for row in rows
    )


def fitting(inputs: Inputs, model: TorchModel, feedback: LanguageModel, settings: Settings) -> Inputs:
    """Inputs whose prompts and comparisons leave room in the contexts of both models; the others are counted,
    never cut.

    A critique holds the prompt, a reply, a critique and two requests, and the worked examples before it; a
    question by letter the prompt, two replies, a principle and perhaps a thought. A feedback model elsewhere
    refuses for itself.
    """
    judges = list(dict.fromkeys(judge for judge in (model, feedback) if isinstance(judge, TorchModel)))
    examples = sum(
        len(model.dialogue.reply(Conversation(), e.reply + e.critique + e.revision)) + 150
        for e in inputs.examples[: settings.examples]
    )
    room = 4 * settings.max_tokens + 300 + examples
    counts = dict(inputs.counts)

    def kept(name: str, prompts: tuple[Conversation, ...]) -> tuple[Conversation, ...]:
        asked = 3 * settings.max_tokens + 300
        good = tuple(
            p
            for p in prompts
            if model.fits(p, max_tokens=room) and all(judge.fits(p, max_tokens=asked) for judge in judges)
        )
        if len(good) < len(prompts):
            counts[f"{name} prompts too long for the context, left out"] = len(prompts) - len(good)
        if len(good) < 4 and len(good) < len(prompts):
            contexts = " and ".join(f"{judge.name}'s context of {judge.context}" for judge in judges)
            raise InputError(f"only {len(good)} {name} prompts fit {contexts} with {room} tokens of room")
        return good

    reads = [
        c
        for c in inputs.comparisons
        if all(model.fits(c.prompt.assistant(reply), max_tokens=20) for reply in (c.first, c.second))
    ]
    if len(reads) < len(inputs.comparisons):
        counts["comparisons too long for the context, left out"] = len(inputs.comparisons) - len(reads)
    return Inputs(
        inputs.constitution,
        kept("red-team", inputs.prompts),
        kept("held-out", inputs.held_out),
        kept("helpful", inputs.helpful),
        kept("held-out helpful", inputs.helpful_held_out),
        tuple(reads),
        inputs.examples,
        tuple(counts.items()),
    )


def hashes(inputs: Inputs, start: TorchModel, feedback: LanguageModel) -> dict[str, str]:
    """What the run's name depends on beside settings and seed."""
    fingerprint = feedback.fingerprint if isinstance(feedback, TorchModel) else feedback.name
    found = {
        "model": start.fingerprint,
        "feedback": fingerprint,
        "constitution": digest(asdict(inputs.constitution)),
        "examples": digest([asdict(e) for e in inputs.examples]),
    }
    for name in ("prompts", "held_out", "helpful", "helpful_held_out"):
        found[name] = digest([value.key for value in getattr(inputs, name)])
    found["comparisons"] = digest([comparison_to_row(comparison) for comparison in inputs.comparisons])
    return found


def finish(run: Run, report: Report, policy: TorchModel, reward: PreferenceModel) -> None:
    """The report in three forms, and the models in forms that other libraries load."""
    write_report(report, run.folder)
    if isinstance(policy.module, SmallTransformer):
        run.artefact("model", lambda path: save_small(policy, path))
    else:
        run.artefact("model", lambda path: export(policy, path))
        run.artefact("preference_model", lambda path: export_classifier(reward.scalar, reward.dialogue, path))
        if adapter_layers(policy.module):
            run.artefact("adapter", lambda path: export_adapter(policy, path))
