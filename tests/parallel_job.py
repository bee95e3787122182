"""A tiny model trained in every way, alone or by several processes, for tests/test_parallel.py."""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from solon.alignment.preference import PreferenceModel, fit_preference_model
from solon.models.adapters import Lora
from solon.models.scalar import ScalarModel
from solon.models.weights import full_tensor, save_tensors
from solon.training.fit import fit, reply_cross_entropy
from solon.training.improve import improve
from solon.training.optimiser import Plan
from solon.training.parallel import World, init_distributed, load_state, save_state, shutdown
from solon.training.steps import State, Step
from solon.words.comparison import Comparison
from tests.library.test_training import batch, config, rows, wants
from tests.models.test_models import WORDS, asked, model

STEPS, HALF = 20, 10


def comparisons() -> list[Comparison]:
    rng = random.Random(1)
    return [
        Comparison(prompt, *(" ".join(rng.choices(WORDS, k=4)) for _ in range(2)), rng.random(), "test")
        for prompt in asked(24)
    ]


def supervised(world: World, state: State | None) -> Iterator[Step]:
    plan = Plan(STEPS, 1e-3, warmup=3, schedule="cosine", weight_decay=0.01)
    speaker = model()
    return fit(
        speaker.module,
        batch(rows(), tokens=40),
        reply_cross_entropy(speaker.module),
        plan=plan,
        state=state,
        world=world,
    )


def adapters(world: World, state: State | None) -> Iterator[Step]:
    speaker = model().adapted(Lora(4), seed=0)
    return fit(
        speaker.module,
        batch(rows()),
        reply_cross_entropy(speaker.module),
        plan=Plan(STEPS, 1e-3),
        state=state,
        world=world,
    )


def preference(world: World, state: State | None) -> Iterator[Step]:
    speaker = model()
    pm = PreferenceModel("pm", ScalarModel(speaker.module), speaker.dialogue)
    return fit_preference_model(
        pm, comparisons(), plan=Plan(STEPS, 1e-3), size=6, seed=0, state=state, world=world
    )


def reinforced(method: str) -> Callable[[World, State | None], Iterator[Step]]:
    def run(world: World, state: State | None) -> Iterator[Step]:
        critic = ScalarModel(model(scale=1.0).module) if method == "ppo" else None
        policy, reference = model(scale=1.0), model(scale=1.0)
        return improve(
            policy,
            asked(16),
            wants("w7"),
            reference=reference,
            config=replace(config(method, STEPS), plan=Plan(STEPS, 1e-3), value_learning_rate=1e-3),
            seed=0,
            critic=critic,
            state=state,
            world=world,
        )

    return run


TASKS = {
    "supervised": supervised,
    "adapters": adapters,
    "preference": preference,
    "rloo": reinforced("rloo"),
    "ppo": reinforced("ppo"),
}


def train_all(folder: Path, *, resume: bool) -> None:
    """Train by every task, and write the weights that it ends on. Two processes keep the state half way,
    which is what others go on from.
    """
    torch.set_num_threads(1)
    kind = "resume" if resume else "whole"
    with init_distributed() as world:
        for name, task in TASKS.items():
            for step in task(world, load_state(folder / f"{name}.half") if resume else None):
                if step.number == HALF and world.size == 2 and not resume:
                    save_state(step.state(), folder / f"{name}.half")
            ended = {key: full_tensor(tensor) for key, tensor in step.state().items()}
            if world.rank == 0:
                save_tensors(
                    {**ended, "loss": torch.tensor(step.metrics["loss"])},
                    folder / f"{name}.{kind}{world.size}.safetensors",
                )


def process(rank: int, environment: dict[str, str], folder: Path, resume: bool) -> None:
    """One of several processes, as torchrun would start it."""
    os.environ |= environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    train_all(folder, resume=resume)
    shutdown(0)
