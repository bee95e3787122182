"""A model with what it knows of itself, kept in a folder: it answers where it is sure enough."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from solon.errors import InputError
from solon.evaluation.knowledge import KnowledgeModel, build_knowledge_model
from solon.evaluation.measure import choice_outcomes
from solon.evaluation.selective import Threshold
from solon.evaluation.self_knowledge import SampledAnswers, p_true, propose_answer, sample_answers
from solon.models.backbones.small_files import save_small
from solon.models.huggingface import export
from solon.models.load import load_open
from solon.models.torch_model import TorchModel
from solon.records.files import write_text
from solon.tools.knows.settings import By, Settings
from solon.words.question import Problem

FILE, HEAD = "solon_knows.json", "solon_knows.safetensors"


@dataclass(frozen=True, slots=True)
class Knower:
    """A model with what it knows of itself: it answers where its confidence reaches the threshold."""

    model: TorchModel
    head: KnowledgeModel
    threshold: Threshold
    by: By
    ideas: int
    examples: tuple[Problem, ...]
    seed: int

    def confidences(self, problems: Sequence[Problem], samples: Sequence[SampledAnswers]) -> list[float]:
        return confidences(
            self.by, self.model, self.head, problems, samples, examples=self.examples, ideas=self.ideas
        )

    def answered(self, problems: Sequence[Problem], samples: int = 0) -> list[dict[str, Any]]:
        """For each problem its confidence, whether that is enough, the greedy answer, and whether it is right
        where answers are known.
        """
        needed = max(2, self.ideas) if self.by == "p_true" else 1
        count = max(samples, needed)
        sampled = sample_answers(self.model, problems, examples=self.examples, samples=count, seed=self.seed)
        confidence = self.confidences(problems, sampled)
        return [
            {
                "question": problem.text,
                "confidence": p,
                "answers": p >= self.threshold.value,
                "answer": answers.greedy.strip(),
                "right": answers.greedy_right is True if any(problem.answers) else None,
            }
            for problem, answers, p in zip(problems, sampled, confidence, strict=True)
        ]


def confidences(
    by: By,
    model: TorchModel,
    head: KnowledgeModel,
    problems: Sequence[Problem],
    samples: Sequence[SampledAnswers],
    *,
    examples: Sequence[Problem],
    ideas: int,
) -> list[float]:
    """How sure the model is of its greedy answers, by P(IK), P(True) or the answer's likelihood."""
    if by == "p_ik":
        return head(problems, examples=examples)
    if by == "likelihood":
        return [float(np.exp(-answers.greedy_loss)) for answers in samples]
    proposals = [
        propose_answer(
            problem,
            answers.greedy,
            right=None,
            ideas=[answers.greedy, *answers.texts[: ideas - 1]] if ideas else [],
        )
        for problem, answers in zip(problems, samples, strict=True)
    ]
    return [p_true(outcome) for outcome in choice_outcomes(model, proposals)]


def save(knower: Knower, settings: Settings, folder: Path) -> None:
    """A model folder that other libraries load, with the head and the threshold beside."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        export(knower.model, folder)
    except InputError:
        save_small(knower.model, folder)
    knower.head.save(folder / HEAD)
    about = {
        "method": settings.method,
        "depth": settings.depth,
        "rank": settings.rank,
        "by": knower.by,
        "ideas": knower.ideas,
        "seed": knower.seed,
        "threshold": {**asdict(knower.threshold), "value": min(knower.threshold.value, 2.0)},
        "examples": [asdict(example) for example in knower.examples],
        "plain": type(knower.model.dialogue).__name__ == "PlainText",
    }
    write_text(folder / FILE, json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def load(folder: Path, *, precision: str = "auto") -> Knower:
    """What `save` wrote. Raises InputError where there is none, or it is of another form."""
    if not (folder / FILE).exists():
        raise InputError(
            f"{folder} holds no {FILE}: fit one first with solon knows MODEL --questions FILE, and give "
            "RUN/model"
        )
    try:
        about = json.loads((folder / FILE).read_text())
        model = load_open(str(folder), precision=precision)
        model = model.plain() if about["plain"] else model
        head = build_knowledge_model(model, about["method"], depth=about["depth"], rank=about["rank"])
        rows: list[dict[str, Any]] = [
            {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
            for row in about["examples"]
        ]
        examples = tuple(Problem(**row) for row in rows)
        threshold = Threshold(**about["threshold"])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(f"{folder / FILE} is not what solon knows writes: {error}") from error
    head.load(folder / HEAD)
    return Knower(model, head, threshold, about["by"], about["ideas"], examples, about["seed"])
