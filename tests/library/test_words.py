"""Conversations, comparisons, constitutions and the published forms."""

import gzip
import json
import string
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solon.data import packaged
from solon.data.published import (
    first_human_text,
    read_comparisons,
    read_dialogues,
    read_prompts,
    split_by_opening,
    to_hh_pair,
)
from solon.data.rows import comparison_from_row, comparison_to_row, from_messages, to_messages
from solon.data.tables import read_rows, write_rows
from solon.data.trainer_formats import WRITERS, TrainingData
from solon.errors import InputError
from solon.words.comparison import Comparison
from solon.words.constitution import parse_constitution, read_constitution
from solon.words.conversation import Conversation, Message, read_transcript, write_transcript
from solon.words.question import Question
from tests.paths import PUBLISHED

HH = PUBLISHED / "hh_rlhf" / "harmless-base.jsonl.gz"
needs_hh = pytest.mark.skipif(
    not HH.exists(), reason="the published hh-rlhf rows are not beside this checkout"
)
said = st.text(string.ascii_letters + string.punctuation + " \n\u00e9\u4e2d").filter(
    lambda t: "\n\nHuman:" not in t and "\n\nAssistant:" not in t
)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    talk = Conversation()
    for number in range(draw(st.integers(1, 5))):
        text = draw(said)
        talk = talk.human(text) if number % 2 == 0 else talk.assistant(text)
    return talk


@given(conversations())
def test_a_transcript_reads_back_as_it_was(talk: Conversation) -> None:
    try:
        text = write_transcript(talk)
    except InputError:
        return
    assert read_transcript(text) == talk


@given(conversations())
def test_messages_read_back_as_they_were(talk: Conversation) -> None:
    assert from_messages(json.loads(json.dumps(to_messages(talk)))) == talk


@given(conversations(), st.floats(0, 1), said, said)
def test_comparisons_read_back_and_swap_twice(
    prompt: Conversation, p: float, first: str, second: str
) -> None:
    comparison = Comparison(
        prompt,
        first,
        second,
        p,
        "judge",
        "harmless",
        "rule",
        ((-1.0, -2.0), (-0.5, -3.0)),
        ("why", "because"),
    )
    assert comparison_from_row(json.loads(json.dumps(comparison_to_row(comparison)))) == comparison
    assert comparison.swapped().swapped().p_first == pytest.approx(p)
    assert comparison.swapped().readings == ((-2.0, -1.0), (-3.0, -0.5))


def test_a_clamp_is_a_view() -> None:
    comparison = Comparison(Conversation().human("x"), "a", "b", 0.99, "judge", readings=((5.0, 0.0),))
    assert comparison.clamped(0.4, 0.6).p_first == 0.6
    assert comparison.clamped(0.4, 0.6).readings == comparison.readings
    assert comparison.hardened().p_first == 1.0


@pytest.mark.parametrize("words", [{"p_first": 1.5}, {"p_first": float("nan")}])
def test_a_comparison_needs_a_probability(words: dict[str, float]) -> None:
    with pytest.raises(InputError, match="probability"):
        Comparison(Conversation().human("x"), "a", "b", judge="j", **words)


def test_a_turn_that_holds_a_marker_is_refused() -> None:
    with pytest.raises(InputError, match="Human"):
        write_transcript(Conversation().human("a\n\nHuman: b"))
    with pytest.raises(InputError, match="role"):
        Message("robot", "x")  # type: ignore[arg-type]


@pytest.mark.parametrize(("choices", "answer"), [(("a", ""), None), (("a", "a"), None), (("a", "b"), "c")])
def test_bad_questions_are_refused(choices: tuple[str, ...], answer: str | None) -> None:
    with pytest.raises(InputError):
        Question(Conversation().human("x"), choices, answer)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no principles"),
        ("# only a comment\n", "no principles"),
        ("just words", "line"),
        ("[a]\ncritique: x\n", "both a critique and a revision"),
        ("[a]\ncritique: x\nrevision: y\n", "preference"),
        ("[a]\npreference: x\n", "critique and revision"),
        ("[a]\ncritic: x\n", "unknown field"),
        ("[a]\npreference:\n", "no text"),
        ("[a]\npreference: x\n[a]\npreference: y\n", "line"),
    ],
)
def test_bad_constitutions_say_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_constitution(text)


def test_the_constitutions_that_ship() -> None:
    default = read_constitution(packaged.CONSTITUTION)
    assert len(default.revision_principles) == 16
    assert len(default.preference_principles) == 16
    assert not {p.name for p in default.revision_principles} & {p.name for p in default.preference_principles}
    general = read_constitution(packaged.GENERAL)
    assert len(general.principles) == 1


def test_the_prompts_that_ship_are_many_and_held_out_ones_are_new() -> None:
    for training, held_out in (
        (packaged.RED_TEAM, packaged.RED_TEAM_HELD_OUT),
        (packaged.HELPFUL, packaged.HELPFUL_HELD_OUT),
    ):
        train, test = read_prompts(training), read_prompts(held_out)
        assert len(train.rows) >= 150
        assert len(test.rows) >= 50
        assert not train.skipped
        assert not {p.key for p in train.rows} & {p.key for p in test.rows}


def test_the_three_defects_of_published_pairs_are_counted(tmp_path: Path) -> None:
    good = {"chosen": "\n\nHuman: hi\n\nAssistant: a", "rejected": "\n\nHuman: hi\n\nAssistant: b"}
    rows = [
        good,
        {"chosen": "\n\nHuman: hi\n\nAssistant: a", "rejected": "\n\nHuman: ho\n\nAssistant: b"},
        {"chosen": "\n\nHuman: hi\n\nAssistant: a", "rejected": "\n\nHuman: hi\n\nAssistant: "},
        {
            "chosen": "\n\nHuman: hi\n\nAssistant: a  Human: what?",
            "rejected": "\n\nHuman: hi\n\nAssistant: b",
        },
        {
            "chosen": "\n\nHuman: hi\n\nAssistant: x\n\nAssistant: a",
            "rejected": "\n\nHuman: hi\n\nAssistant: x\n\nAssistant: b",
        },
        {"chosen": "\n\nHuman: hi\n\nAssistant: a", "rejected": "\n\nHuman: hi\n\nAssistant: a"},
        good,
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reading = read_comparisons(path)
    assert len(reading.rows) == 1
    assert [skip.line for skip in reading.skipped] == [2, 3, 4, 5, 6, 7]
    assert to_hh_pair(reading.rows[0]) == good


@needs_hh
def test_every_published_row_is_read_or_counted() -> None:
    reading = read_comparisons(HH)
    with gzip.open(HH, "rt") as lines:
        assert len(reading.rows) + len(reading.skipped) == sum(1 for _ in lines)
    assert len(reading.rows) > 1700
    for comparison in reading.rows[:100]:
        assert read_transcript(to_hh_pair(comparison)["chosen"]) == comparison.prompt.assistant(
            comparison.first
        )


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_tables_round_trip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    write_rows(path, [{"prompt": 'a, "b"\nc'}, {"prompt": "d\t\u00e9"}])
    assert [row for _, row in read_rows(path)] == [{"prompt": 'a, "b"\nc'}, {"prompt": "d\t\u00e9"}]
    assert [p.last for p in read_prompts(path).rows] == ['a, "b"\nc', "d\t\u00e9"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b"", "empty"),
        ("a.jsonl", b'{"prompt": "x"}\n{"prompt"\n', "line 2"),
        ("a.jsonl", b"[1]\n", "line 1"),
        ("a.jsonl", b'{"nothing": 1}\n', "line 1"),
        ("a.jsonl", b'{"prompt": 3}\n', "line 1"),
        ("a.jsonl", b'{"messages": [{"role": "robot", "content": "x"}]}\n', "line 1"),
        ("a.csv", b"prompt,b\nx,y\nz\n", "line 3"),
        ("a.parquet", b"no", "cannot read"),
        ("a.txt.gz", b"no", "cannot read"),
        ("a.txt", b"\xff\xfe\xfa", "cannot read"),
        ("a.doc", b"x", "format"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_prompts(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.txt"):
        read_prompts(tmp_path / "none.txt")


def test_a_split_shares_no_dialogue() -> None:
    talks = [Conversation().human(str(n % 7)).assistant("a").human(str(n)) for n in range(40)]
    first, second = split_by_opening(talks, first_human_text, [10, 10])
    assert len(first) == len(second) == 10
    assert not {first_human_text(t) for t in first} & {first_human_text(t) for t in second}
    with pytest.raises(InputError, match="too few"):
        list(split_by_opening(talks, first_human_text, [30, 30]))


@pytest.mark.parametrize("kind", WRITERS)
def test_rows_are_handed_over_in_the_forms_of_other_trainers(kind: str, tmp_path: Path) -> None:
    prompt = Conversation().system("Be brief.").human("How do I whittle a spoon?")
    comparison = Comparison(prompt, "Badly.", "With a sharp knife.", 0.2, "test")
    WRITERS[kind](
        TrainingData([prompt.assistant("With a knife.")], [comparison], [prompt], 48, 0.001), tmp_path
    )
    script = (tmp_path / "launch.sh").read_text()
    assert subprocess.run(["bash", "-n", str(tmp_path / "launch.sh")]).returncode == 0
    assert "48" in script
    assert "0.001" in script
    files = {
        path.relative_to(tmp_path).as_posix(): [row for _, row in read_rows(path)]
        for path in tmp_path.rglob("*")
        if path.suffix in (".jsonl", ".parquet")
    }
    assert all(Path(name).parts[0] in script for name in files)
    talks = next(rows for name, rows in files.items() if name.startswith("supervised"))
    assert from_messages(talks[0]["messages"]) == prompt.assistant("With a knife.")
    if kind != "verl":
        row = next(rows for name, rows in files.items() if name.startswith("comparisons"))[0]
        assert row["chosen"][-1] == {"role": "assistant", "content": "With a sharp knife."}
        assert row["rejected"][-1] == {"role": "assistant", "content": "Badly."}


def test_whole_dialogues_become_one_context(tmp_path: Path) -> None:
    context = read_dialogues(packaged.ASSISTANT)
    assert [turn.role for turn in context.turns] == ["human", "assistant"] * (len(context.turns) // 2)
    assert len(context.turns) == 20 and "---" not in "".join(turn.text for turn in context.turns)
    file = tmp_path / "broken.txt"
    file.write_text("Human: Hi\n\nAssistant: Hello.\n\n---\n\nHuman: Hi\n")
    with pytest.raises(InputError, match="dialogue 2"):
        read_dialogues(file)
