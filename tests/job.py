"""A small main job in a process of its own, for killing, or in several by torchrun: `python -m tests.job
FOLDER`.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import torch

from solon.data import toy_world as toy
from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.dialogue import WordDialogue
from solon.models.torch_model import TorchModel
from solon.records.files import write_text
from solon.records.page import page
from solon.records.report import markdown
from solon.records.run import Run
from solon.studies.constitutional_ai.inputs import Inputs
from solon.studies.constitutional_ai.settings import Settings
from solon.studies.constitutional_ai.study import align
from solon.training.parallel import init_distributed, shutdown
from tests.toy import oracle, prompts

SETTINGS = Settings(
    rounds=1,
    examples=0,
    max_tokens=8,
    label="multiple_choice",
    weights="full",
    batch=8,
    supervised_learning_rate=1e-3,
    preference_learning_rate=1e-3,
    preference_epochs=2.0,
    probe_start=True,
    method="ppo",
    policy_steps=10,
    policy_prompts=4,
    policy_samples=2,
    policy_learning_rate=1e-3,
    evaluation_samples=1,
)


def main(root: Path) -> None:
    """The whole job in a folder, by this process or by all that torchrun started."""
    torch.set_num_threads(1)
    dialogue = WordDialogue(toy.vocabulary())
    start = TorchModel(
        "untrained",
        SmallTransformer(Shape(dialogue.size, width=32, layers=1, heads=2, context=96), seed=0),
        dialogue,
    )
    red, useful = prompts(toy.FORBIDDEN, 72, 0), prompts(toy.EVERYDAY, 24, 0)
    inputs = Inputs(
        start=start,
        feedback=oracle(lambda prompt, reply: float(len(reply) % 7)),
        constitution=toy.CONSTITUTION,
        prompts=red[:48],
        held_out=red[48:],
        helpful=useful[:12],
        helpful_held_out=useful[12:],
    )
    with init_distributed() as world, Run.open(root, "job", asdict(SETTINGS), {}, seed=0, world=world) as run:
        # keep every step, so that kills land between them too
        object.__setattr__(run, "checkpoint_seconds", 0.0)
        aligned = align(run, SETTINGS, inputs)
        if world.rank:
            return
        write_text(run.folder / "report.md", markdown(aligned.report))
        write_text(run.folder / "report.html", page(aligned.report))
        aligned.policy.save(run.folder / "final.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    shutdown(0)
