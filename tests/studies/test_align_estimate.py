"""What the main job says it will take, against what it took; and what it leaves beside the report."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from solon.data import toy_world as toy
from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.dialogue import WordDialogue
from solon.models.torch_model import TorchModel
from solon.records.run import Run
from solon.studies.constitutional_ai.estimate import estimate
from solon.studies.constitutional_ai.inputs import Inputs
from solon.studies.constitutional_ai.study import study
from tests.job import SETTINGS
from tests.toy import oracle, prompts

SMALL = replace(SETTINGS, policy_steps=2, policy_epochs=1, preference_epochs=1.0)


def inputs() -> Inputs:
    dialogue = WordDialogue(toy.vocabulary())
    shape = Shape(dialogue.size, width=16, layers=1, heads=2, context=96)
    red, useful = prompts(toy.FORBIDDEN, 24, 0), prompts(toy.EVERYDAY, 12, 0)
    return Inputs(
        start=TorchModel("untrained", SmallTransformer(shape, seed=0), dialogue),
        feedback=oracle(lambda prompt, reply: float(len(reply) % 7)),
        constitution=toy.CONSTITUTION,
        prompts=red[:18],
        held_out=red[18:],
        helpful=useful[:6],
        helpful_held_out=useful[6:],
        text="# as it was read\n",
    )


def rows(folder: Path, name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_the_estimate_bounds_what_the_job_took(tmp_path: Path) -> None:
    given, lines = inputs(), list[str]()
    expected = {work.stage: work for work in estimate(SMALL, given).stages}
    with Run.open(tmp_path, "job", asdict(SMALL), {}, seed=0, say=lines.append) as run:
        study(run, SMALL, given)
    folder = run.folder
    assert lines[0].startswith("the whole job, at most: ") and "on this machine" in lines[0]
    assert expected["policy"].replies == len(rows(folder, "policy.rows.jsonl"))
    assert expected["policy"].steps == len(rows(folder, "policy.steps.jsonl"))
    assert expected["drafts"].replies == 3 * len(rows(folder, "drafts.jsonl"))
    kept = [path.name for path in (*folder.glob("held_out_*"), *folder.glob("helpful_*"))]
    replies = [reply for name in kept for row in rows(folder, name) for reply in row["replies"]]  # type: ignore[attr-defined]
    assert expected["held-out replies"].replies == len(replies)
    assert expected["held-out replies"].sampled >= sum(len(reply["tokens"]) for reply in replies)
    assert expected["supervised"].steps >= len(rows(folder, "supervised.steps.jsonl"))
    trained = [len(rows(folder, f"{name}.steps.jsonl")) for name in ("train_pm", "test_pm")]
    assert abs(expected["preference models"].steps - sum(trained)) <= 2
    assert (folder / "constitution.txt").read_text() == given.text
    assert (folder / "model").is_dir()


def test_a_dry_run_is_a_table_of_stages() -> None:
    text = str(estimate(SMALL, inputs()))
    for words in (
        "drafts",
        "policy",
        "in all",
        "GiB at the peak",
        "time: an estimate",
        "is taken for as fast",
    ):
        assert words in text
