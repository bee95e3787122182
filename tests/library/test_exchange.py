"""Public votes as comparisons: the published score, what is useless left out and counted, and the binary
form.
"""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solon.data.exchange import Answer, answer_score, binarise, exchange_comparisons, read_stack_exchange
from solon.errors import InputError
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation


@given(st.integers(0, 10**6), st.booleans())
def test_more_votes_never_score_less(votes: int, accepted: bool) -> None:
    assert answer_score(votes + 1, accepted) >= answer_score(votes, accepted) > answer_score(-1, accepted)
    assert answer_score(votes, True) == answer_score(votes, False) + 1


@given(st.lists(st.integers(-1, 5), max_size=8), st.integers(1, 12))
def test_the_better_answer_comes_first_and_equal_ones_are_no_pair(scores: list[int], most: int) -> None:
    answers = [Answer(f"answer {place} of {score}", score) for place, score in enumerate(scores)]
    found = exchange_comparisons("why?", answers, most=most)
    unequal = sum(a != b for place, a in enumerate(scores) for b in scores[place + 1 :])
    assert len(found) == min(unequal, most)
    assert len({comparison.key for comparison in found}) == len(found)
    assert all(int(c.first.split()[-1]) > int(c.second.split()[-1]) for c in found)
    assert found == exchange_comparisons("why?", answers, most=most)


def test_a_tie_cannot_be_binarised_and_a_swapped_pair_can() -> None:
    pair = Comparison(Conversation().human("q"), "a", "b", 1.0, "votes")
    assert binarise(pair.swapped()) == binarise(pair)
    with pytest.raises(InputError, match="tie"):
        binarise(Comparison(pair.prompt, "a", "b", 0.5, "votes"))


def test_a_file_of_questions(tmp_path: Path) -> None:
    rows = [
        {
            "question": "how?",
            "answers": [
                {"text": "so", "votes": 7, "selected": True},
                {"text": "or so", "votes": -2},
                {"text": "well", "votes": 0},
            ],
        },
        {"question": "why?", "answers": [{"text": "alone", "pm_score": 3}]},
        {"question": "when?", "answers": [{"text": "now", "score": 2}, {"text": "then", "score": 2}]},
    ]
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_stack_exchange(file)
    assert [(c.first, c.second) for c in found.rows] == [("so", "or so"), ("so", "well"), ("well", "or so")]
    assert found.counts() == {"fewer than two answers": 1, "all answers have one score": 1}
    for broken, said in (
        ({"question": "x"}, "line 1.*list of answers"),
        ({"question": "x", "answers": [{"text": "y"}]}, "line 1.*pm_score or votes"),
    ):
        file.write_text(json.dumps(broken) + "\n")
        with pytest.raises(InputError, match=said):
            read_stack_exchange(file)
