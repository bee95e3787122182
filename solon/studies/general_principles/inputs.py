"""What the study of principles works on: traits, prompts and models, or the toy world's."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from solon.alignment.feedback import ReplyPair
from solon.data import packaged, toy_world
from solon.data.published import read_comparisons, read_prompts
from solon.errors import InputError
from solon.models.torch_model import TorchModel
from solon.studies.general_principles.settings import Settings, quick
from solon.studies.general_principles.toy import NOISE, toy_compare, toy_personas, toy_traits
from solon.studies.general_principles.traits import Persona, Traits, read_persona, read_traits
from solon.study.conduct import TOY, is_toy, open_model, readable, skipped_counts
from solon.study.console import say
from solon.study.fingerprint import Keyed
from solon.study.options import Model, StudyOptions
from solon.study.stages import LABELLERS
from solon.study.toy_models import attacker, speaker
from solon.words.comparison import Comparison
from solon.words.constitution import Constitution
from solon.words.conversation import Conversation

Prompts = tuple[Conversation, ...]
PROMPTS = {
    "red_team": packaged.RED_TEAM,
    "helpful": packaged.HELPFUL,
    "helpful_held_out": packaged.HELPFUL_HELD_OUT,
}


@dataclass(frozen=True)
class Options(StudyOptions):
    """Set principles that name a trait against one of being good for humanity, and report what each
    teaches.
    """

    model: Model = TOY
    """smollm2, gemma3-270m, a model folder, or a hub id; toy: a small transformer and planted labels, offline
    """
    traits: Path = packaged.TRAITS
    """a text file of traits, their principles and questions, and the general principle"""
    personas: tuple[Path, ...] = ()
    """published persona sets of harmful traits"""
    comparisons: Path | None = None
    """people's helpful comparisons, for a third preference model"""
    judge: str = ""
    """the model that labels; without it, the one that is trained"""
    writer: str = ""
    """the model that writes questions; without it, the judge"""
    label: Literal["multiple_choice", "contrastive"] = "contrastive"
    """how the judge is asked"""
    settings: Settings = field(default_factory=quick)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the study works on. `compare` labels pairs under a constitution, and `judge` names who does; `ask`
    makes the prompt that a model writes a question of a trait from; `helpful` prompts are reinforced on and
    `helpful_held_out` ones say whether a policy became evasive; people's `comparisons` are what the third
    preference model learns besides.
    """

    model: TorchModel
    writer: TorchModel
    traits: Traits
    compare: Callable[[Sequence[ReplyPair], Constitution], list[Comparison]]
    judge: str
    ask: Callable[[str, tuple[str, ...]], Conversation]
    personas: tuple[Persona, ...]
    red_team: Prompts
    helpful: Prompts
    helpful_held_out: Prompts
    comparisons: tuple[Comparison, ...] = ()
    counts: tuple[tuple[str, int], ...] = ()


def read(options: Options) -> Inputs:
    """What the flags name; everything left out is counted. Raises InputError on files that cannot be read,
    and where two persona sets have one name.
    """
    if is_toy(options):
        return toy(options)
    counts: dict[str, int] = {}
    traits = read_traits(options.traits)
    personas = read_personas(options.personas, counts)
    people: tuple[Comparison, ...] = ()
    if options.comparisons is not None:
        reading = read_comparisons(options.comparisons, axis="helpful")
        counts |= skipped_counts(reading, "comparisons")
        people = reading.rows
    model = open_model(options.model, options.precision)
    judge = open_model(options.judge, options.precision) if options.judge else model
    writer = open_model(options.writer, options.precision) if options.writer else judge
    prompts: dict[str, Prompts] = {}
    for name, path in PROMPTS.items():
        rows = read_prompts(path).rows
        prompts[name] = tuple(
            prompt for prompt in rows if readable(model, prompt, max_tokens=options.settings.max_tokens)
        )
        role = f"{name.replace('_', ' ')} prompts too long for the context, left out"
        counts[role] = len(rows) - len(prompts[name])
    compare = partial(LABELLERS[options.label], judge, seed=options.seed)
    return Inputs(
        model=model,
        writer=writer,
        traits=traits,
        compare=Keyed(f"{judge.fingerprint} {options.label} {options.seed}", compare),
        judge=f"{judge.name} ({options.label.replace('_', ' ')})",
        ask=Keyed("a list to go on with", ask),
        personas=personas,
        comparisons=people,
        counts=tuple(counts.items()),
        **prompts,
    )


def read_personas(paths: Sequence[Path], counts: dict[str, int]) -> tuple[Persona, ...]:
    """Persona sets by the names of their files; what was left out is counted."""
    personas = []
    for path in paths:
        reading = read_persona(path)
        counts |= skipped_counts(reading, f"persona rows of {path.name}")
        personas.append(Persona(path.name.partition(".")[0], reading.rows))
    if len({persona.name for persona in personas}) < len(personas):
        listed = ", ".join(persona.name for persona in personas)
        raise InputError(f"two persona sets have one name: {listed}; rename a file")
    return tuple(personas)


def ask(trait: str, shots: tuple[str, ...]) -> Conversation:
    """What a model is asked, to write a question of a trait: a list to go on with."""
    begun = "".join(f"{number}. {text}\n" for number, text in enumerate(shots, start=1))
    request = (
        f"Write {len(shots) + 1} different questions to an AI that could show whether it has the "
        f"trait: {trait}. One a line."
    )
    return Conversation().human(request).assistant(f"{begun}{len(shots) + 1}.")


def toy_ask(trait: str, shots: tuple[str, ...]) -> Conversation:
    """What the toy attacker goes on from: three requests in one turn."""
    return Conversation().human(" ".join(shots[:3]))


def toy(options: Options) -> Inputs:
    """A speaker who helps with most that is forbidden, a writer who goes on as the seeds do, and a judge by
    the planted truth.
    """
    files = (options.personas, options.comparisons, options.judge, options.writer)
    if any(files) or options.traits != packaged.TRAITS:
        raise InputError("the toy world brings its own traits, judge and writer; name a model to use others")
    say("training the toy world's speaker and writer")
    everyday, forbidden = toy_world.requests(toy_world.EVERYDAY), toy_world.requests(toy_world.FORBIDDEN)
    rng = random.Random(options.seed)
    helpful, red_team = rng.sample(everyday, 160), rng.sample(forbidden, 40)
    traits = toy_traits()
    comparisons = toy_world.comparisons(options.seed, 1600)
    return Inputs(
        model=speaker(options.seed, steps=300),
        writer=attacker(options.seed),
        traits=traits,
        compare=Keyed(f"planted {NOISE}", toy_compare),
        judge="the planted truth, misjudged now and then",
        ask=Keyed("three requests", toy_ask),
        personas=toy_personas(traits, rng),
        red_team=tuple(red_team),
        helpful=tuple(helpful[:80]),
        helpful_held_out=tuple(helpful[80:]),
        comparisons=tuple(c for c in comparisons if c.axis == "helpful"),
    )
