"""Parsers of rows of published question formats. A `Defect` is a known fault of published rows; such rows are
skipped and counted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from solon.data.published import Defect
from solon.data.tables import Row
from solon.errors import InputError
from solon.words.question import LETTERS, Problem

STEPS = "Let's think step by step."
OPENINGS = ("\n\nThe answer is:", "\nThe answer is:", "\n\nAnswer:", "\nAnswer:")  # how published prompts end


def make_problem(text: str, options: Sequence[str], answers: Sequence[str], **more: Any) -> Problem:
    """A problem; `more` are its other fields. Raises Defect where there is no question, where options are
    empty or equal, and where the answer is no option.
    """
    if not text.strip() and not more.get("opening", "").strip():
        raise Defect("no question")
    try:
        return Problem(text, tuple(options), tuple(answers), **more)
    except InputError as error:
        known = {
            "empty": "an empty option",
            "equal": "two equal options",
            "none of the choices": "an answer that is no option",
        }
        raise Defect(
            next((words for sign, words in known.items() if sign in str(error)), str(error))
        ) from error


def _cell(row: Row, field: str) -> str:
    value = row.get(field)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Defect(f"no {field}")
    return str(value).strip()


def _chosen(options: Sequence[str], answer: object) -> str:
    """The option that an answer key names by its text, its index from 0, or its letter."""
    key = str(answer).strip()
    if answer is None or not key:
        raise Defect("no answer key")
    if key in options and (not isinstance(answer, int) or isinstance(answer, bool)):
        return key  # a JSON number is an index, even where options are numbers
    index = int(key) if key.isdecimal() else _letter(key)
    if not 0 <= index < len(options):
        raise Defect("an answer that is no option")
    return options[index]


def _letter(key: str) -> int:
    """The index that a letter names; -1 where the key is no letter."""
    bare = key.strip("()").upper()
    return LETTERS.find(bare) if len(bare) == 1 else -1


def parse_mmlu(row: Row) -> Problem:
    """MMLU: `choice0`, `choice1` ... and `answer`, an index or a letter."""
    options = [
        str(row[name]).strip()
        for name in sorted(
            (name for name in row if re.fullmatch(r"choice\d+", name)), key=lambda name: int(name[6:])
        )
    ]
    key = str(row["answer"]).strip()
    if not key:
        raise Defect("no answer key")
    index = int(key) if key.isdecimal() else _letter(key)  # never by text: an option of MMLU may be a number
    if not 0 <= index < len(options):
        raise Defect("an answer that is no option")
    _distinct(options)
    return make_problem(
        f"Question: {_cell(row, 'question')}",
        options,
        [options[index]],
        tags={"subject": str(row.get("subject") or "")},
    )


def _distinct(options: Sequence[str]) -> None:
    if any(not option for option in options):
        raise Defect("an empty option")
    if len(set(options)) < len(options):
        raise Defect("two equal options")


def parse_generic(row: Row) -> Problem:
    """Solon's rows: `choices` and `answer`, or `answers`; optionally `cluster`, `subject` and `id`."""
    tags = {name: str(row[name]) for name in ("subject", "id") if row.get(name)}
    text, cluster = f"Question: {_cell(row, 'question')}", str(row.get("cluster") or "")
    if "choices" in row:
        if not isinstance(row["choices"], list) or len(row["choices"]) < 2:
            raise InputError(f"choices must be a list of two or more; found {row['choices']!r:.80}")
        options = [str(option).strip() for option in row["choices"]]
        _distinct(options)
        return make_problem(text, options, [_chosen(options, row.get("answer"))], cluster=cluster, tags=tags)
    answers = [str(answer) for answer in row["answers"]] if isinstance(row["answers"], list) else []
    if not any(answer.strip() for answer in answers):
        raise Defect("no answer key")
    return make_problem(
        text, (), [answer for answer in answers if answer.strip()], cluster=cluster, tags=tags
    )


def parse_model_written(row: Row) -> Problem:
    """Model-written evaluations (Perez et al. 2022, arXiv:2212.09251): the answer is the one that matches the
    behaviour. The text contains the options, or they are Yes and No.
    """
    matching, other = row["answer_matching_behavior"], row["answer_not_matching_behavior"]
    others = other if isinstance(other, list) else [other]
    if isinstance(matching, list):
        if len(matching) != 1:
            raise Defect("several answers match the behaviour")
        matching = matching[0]
    options = sorted({str(matching).strip(), *(str(answer).strip() for answer in others)})
    if str(matching).strip() in [str(answer).strip() for answer in others]:
        raise Defect("one answer matches and does not match")
    tags = {"confidence": str(row["label_confidence"])} if "label_confidence" in row else {}
    opening = (
        ""
        if set(options) == {"Yes", "No"}
        else "I believe the better option is"
        if "Answer:" in str(row["question"])
        else "Answer:"
    )
    text = _cell(row, "question").removesuffix("Answer:").rstrip()
    return make_problem(text, options, [str(matching).strip()], opening=opening, lettered=False, tags=tags)


def parse_hhh(row: Row) -> Problem:
    """HHH comparisons: prompts that end on the answer's opening, with continuations in `corrects` and
    `incorrects`.
    """
    right, wrong = ([str(text).strip() for text in row[name]] for name in ("corrects", "incorrects"))
    if len(right) != 1 or not wrong:
        raise Defect("not one right answer beside wrong ones")
    text = _cell(row, "prompt")
    ending = next((opening for opening in OPENINGS if text.endswith(opening)), "")
    question = text.removesuffix(ending)
    return make_problem(
        question.strip(),
        sorted({*right, *wrong}),
        right,
        opening=ending.strip() or "The answer is:",
        lettered=False,
    )


def parse_truthfulqa(row: Row) -> Problem:
    """TruthfulQA's MC1: the best answer among the incorrect ones, in an order fixed by a hash of the
    question.
    """
    best = _cell(row, "Best Answer").rstrip(".")
    wrong = [
        answer.strip().rstrip(".") for answer in _cell(row, "Incorrect Answers").split(";") if answer.strip()
    ]
    options = sorted(
        {best, *wrong},
        key=lambda option: hashlib.sha256(json.dumps([row["Question"], option]).encode()).digest(),
    )
    if best in wrong:
        raise Defect("one answer is right and wrong")
    return make_problem(
        f"Question: {_cell(row, 'Question')}",
        options,
        [best],
        tags={"subject": str(row.get("Category") or "")},
    )


def parse_arc(row: Row) -> Problem:
    """CommonsenseQA ({question: {stem, choices: [{label, text}]}, answerKey}) and ARC ({question, choices:
    {label, text}, answerKey}).
    """
    question, choices = row["question"], row.get("choices")
    if isinstance(question, Mapping):
        choices, question = question.get("choices"), question.get("stem")
    pairs = (
        [(choice.get("label"), choice.get("text")) for choice in choices] if isinstance(choices, list) else []
    )
    if isinstance(choices, Mapping):
        pairs = list(zip(choices.get("label", ()), choices.get("text", ()), strict=True))
    if not pairs or not isinstance(question, str):
        raise InputError(f"expected a question with choices of label and text; found {sorted(row)}")
    options, labels = [str(text).strip() for _, text in pairs], [str(label) for label, _ in pairs]
    _distinct(options)
    if str(row["answerKey"]) not in labels:
        raise Defect("no answer key")
    return make_problem(
        f"Question: {question.strip()}", options, [options[labels.index(str(row["answerKey"]))]]
    )


def parse_aqua(row: Row) -> Problem:
    """AQuA: options with their letters in front, and the right letter in `correct`."""
    options = [re.sub(r"^\(?[A-Z]\)", "", str(option)).strip() for option in row["options"]]
    _distinct(options)
    index = _letter(_cell(row, "correct"))
    if not 0 <= index < len(options):
        raise Defect("an answer that is no option")
    return make_problem(f"Question: {_cell(row, 'question')}", options, [options[index]])


def parse_nq_open(row: Row) -> Problem:
    """NQ-open: any of the listed answers is right."""
    answers = [str(answer) for answer in row["answer"] if str(answer).strip()]
    if not answers:
        raise Defect("no answer key")
    return make_problem(f"Question: {_cell(row, 'question')}", (), answers)


def parse_gsm8k(row: Row) -> Problem:
    """GSM8K: worked steps, then the answer after ####. Without #### the whole answer is compared as text."""
    worked, sign, final = _cell(row, "answer").rpartition("####")
    if not isinstance(row["answer"], str):
        raise InputError(f"an answer must be text, or a list of texts; found {type(row['answer']).__name__}")
    if not sign or not worked:
        return make_problem(f"Question: {_cell(row, 'question')}", (), [_cell(row, "answer")])
    text, answer = f"Question: {_cell(row, 'question')}", final.strip().replace(",", "").removeprefix("$")
    if re.fullmatch(r"-?\d+(\.\d+)?", answer) is None:
        raise Defect("an answer that is no number")
    return make_problem(
        text,
        (),
        [answer],
        opening=STEPS,
        grade="number",
        max_tokens=200,
        tags={"worked": re.sub(r"<<.*?>>", "", worked).strip()},
    )


def parse_svamp(row: Row) -> Problem:
    """SVAMP and ASDiv: a story, a question and a numeric answer."""
    story, question, answer = (
        _cell(row, next(name for name in row if name.lower() == field))
        for field in ("body", "question", "answer")
    )
    number = re.search(r"-?\d[\d,]*(\.\d+)?", answer)
    if number is None:
        raise Defect("an answer that is no number")
    return make_problem(
        f"Question: {story.rstrip('.')}. {question}",
        (),
        [number.group().replace(",", "")],
        opening="The answer is",
        grade="number",
    )


def parse_addsub(row: Row) -> Problem:
    """AddSub: `sQuestion` and a numeric answer, the first of `lSolutions`."""
    if not row["lSolutions"]:
        raise Defect("no answer key")
    return make_problem(
        f"Question: {_cell(row, 'sQuestion')}",
        (),
        [str(row["lSolutions"][0])],
        opening="The answer is",
        grade="number",
    )


def parse_lambada(row: Row) -> Problem:
    """LAMBADA: the last word of a passage, given all before it."""
    passage, _, word = _cell(row, "text").rpartition(" ")
    if not passage or not word:
        raise Defect("a passage of one word")
    return make_problem("", (), [word], opening=passage, grade="word", max_tokens=8)
