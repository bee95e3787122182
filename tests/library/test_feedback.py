"""Feedback and critique: planted judges are read back, position bias is recovered, principles are drawn."""

import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from solon.alignment.critique import CritiqueExample, revise
from solon.alignment.feedback import (
    ReplyPair,
    agreement,
    label_contrastive,
    label_multiple_choice,
    label_with_reasoning,
    position_bias,
)
from solon.data import packaged
from solon.errors import InputError
from solon.evaluation.replies import is_evasive, is_refusal, repeated_phrase_rate
from solon.evaluation.win_rate import paired_win_rate
from solon.models.remote import RemoteLanguageModel, RemoteModel
from solon.models.scripted import ScriptedModel
from solon.words.comparison import Comparison
from solon.words.constitution import Constitution, Principle, read_constitution
from solon.words.conversation import Conversation

RULES = Constitution((Principle("kind", "was it kind", "be kind", "which is kinder"),))
PAIRS = [ReplyPair(Conversation().human(f"q{n}"), f"good {n}", f"bad {n}") for n in range(200)]


def judge(lean: float, skill: float, noise: float = 0.0) -> ScriptedModel:
    """Log-odds for (A): `lean`, plus `skill` for the good reply's letter, plus noise that is fixed to the
    pair.
    """

    def likes(talk: Conversation, letter: str) -> float:
        text = talk.turns[0].text
        shown = text.split(f"{letter} ", 1)[1].split("\n")[0]
        luck = random.Random(shown.split()[1]).gauss(0, noise) if noise else 0.0
        return (lean if letter == " (A)" else 0.0) + (skill + luck if shown.startswith("good") else 0.0)

    return ScriptedModel("judge", lambda prompt, rng: "thinking", likes)


def test_both_orders_cancel_a_planted_lean_and_report_it() -> None:
    labels = label_multiple_choice(judge(1.5, 0.7), PAIRS, RULES, seed=0)
    assert all(label.p_first == pytest.approx(1 / (1 + 2.718281828**-0.7), abs=1e-6) for label in labels)
    bias = position_bias(labels)
    assert bias.lean == pytest.approx(1.5)
    assert bias.flips == 1.0  # the lean is stronger than the skill, so every choice follows the order
    fair = position_bias(label_multiple_choice(judge(0.0, 0.7), PAIRS, RULES, seed=0))
    assert (fair.lean, fair.flips, fair.n) == (pytest.approx(0.0), 0.0, 200)


def test_one_order_alone_keeps_the_lean() -> None:
    labels = label_multiple_choice(judge(1.5, 0.0), PAIRS[:4], RULES, seed=0, both_orders=False)
    assert labels[0].p_first > 0.8
    with pytest.raises(InputError, match="both orders"):
        position_bias(labels)


def test_agreement_counts_a_tie_as_none() -> None:
    people = [Comparison(pair.prompt, pair.first, pair.second, 1.0, "human") for pair in PAIRS]
    assert all(agreement(people, label_multiple_choice(judge(0, 1), PAIRS, RULES, seed=0)))
    assert not any(agreement(people, label_multiple_choice(judge(0, 0), PAIRS, RULES, seed=0)))
    coin = agreement(people, label_multiple_choice(judge(0, 0, noise=1.0), PAIRS, RULES, seed=0))
    assert 0.4 < sum(coin) / 200 < 0.6


def test_reasoned_labels_keep_their_thoughts_and_clamp_as_a_view() -> None:
    labels = label_with_reasoning(judge(0, 9), PAIRS[:3], RULES, seed=0)
    assert labels[0].rationales == ("thinking", "thinking")
    assert labels[0].p_first > 0.99
    assert labels[0].clamped(0.4, 0.6).p_first == 0.6


def test_contrast_prefers_what_the_principled_preface_makes_likelier() -> None:
    def likes(talk: Conversation, reply: str) -> float:
        careful = "careful" in talk.turns[0].text
        return -1.0 if careful == reply.startswith("good") else -2.0

    labels = label_contrastive(
        ScriptedModel("j", lambda p, r: "", likes),
        PAIRS[:5],
        RULES,
        seed=0,
        prefaces=("be careful: {principle}", "be wild"),
    )
    assert labels[0].readings == ((1.0, -1.0),)
    assert labels[0].p_first == pytest.approx(1 / (1 + 2.718281828**-2), abs=1e-6)


def test_principles_are_drawn_for_every_prompt_and_round() -> None:
    seen: list[str] = []

    def reply(prompt: Conversation, rng: random.Random) -> str:
        seen.append(prompt.last)
        return f"draft {rng.random():.3f}"

    default = read_constitution(packaged.CONSTITUTION)
    prompts = [pair.prompt for pair in PAIRS[:40]]
    drafts = revise(ScriptedModel("s", reply), prompts, default, rounds=3, seed=0)
    drawn = {turn.principle for draft in drafts for turn in draft.rounds}
    assert len(drawn) >= 14
    assert all(len(draft.revisions) == 3 for draft in drafts)
    assert len(seen) == 40 * 7
    assert drafts[:5] == revise(ScriptedModel("s", reply), prompts[:5], default, rounds=3, seed=0)
    plain = revise(ScriptedModel("s", reply), prompts[:2], default, rounds=1, critique=False, seed=0)
    assert plain[0].rounds[0].critique == ""


def test_worked_examples_come_before_the_request() -> None:
    asked: list[Conversation] = []

    def reply(prompt: Conversation, rng: random.Random) -> str:
        asked.append(prompt)
        return "x"

    shown = CritiqueExample("r", "bad", RULES.principles[0], "it was not", "better")
    revise(ScriptedModel("s", reply), [Conversation().human("q")], RULES, rounds=1, examples=[shown], seed=0)
    critique, revision = asked[1], asked[2]
    assert [turn.text for turn in critique.turns] == [
        "r",
        "bad",
        "was it kind",
        "it was not",
        "q",
        "x",
        "was it kind",
    ]
    assert [turn.text for turn in revision.turns][-4:] == ["x", "was it kind", "x", "be kind"]


def test_a_duel_is_paired_and_counts_ties() -> None:
    assert paired_win_rate([[1.0]] * 10, [[0.0]] * 10).rate.value == 1.0
    assert paired_win_rate([[0.0]] * 10, [[0.0]] * 10).ties == 10
    same = paired_win_rate([[float(n)] for n in range(20)], [[float(n)] for n in range(20)])
    assert (same.rate.value, same.ties, same.rate.method) == (0.5, 20, "Wilson")
    assert same.rate.low < 0.5 < same.rate.high
    with pytest.raises(InputError, match="same prompts"):
        paired_win_rate([[1.0]], [])


def test_words_of_refusal_and_boilerplate() -> None:
    assert is_refusal("I can\u2019t help with that.")
    assert not is_refusal("Use a key. " * 30 + "I cannot say more.")
    assert is_evasive("As an AI language model I have no view.")
    assert repeated_phrase_rate(["i would never do that to anyone"] * 3) == 1.0
    assert repeated_phrase_rate([]) == 0.0


class Server(BaseHTTPRequestHandler):
    """A stub of an OpenAI-compatible server; the first `failures` requests are refused."""

    failures: ClassVar[int] = 0
    requests: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Server.requests.append(body)
        if Server.failures > 0:
            Server.failures -= 1
            self.send_response(503)
            self.end_headers()
            return
        if body["model"] == "forbidden":
            self.send_response(401)
            self.end_headers()
            return
        if self.path.endswith("/chat/completions"):
            answer: dict[str, Any] = {
                "choices": [{"message": {"content": f"reply {body['seed'] % 97}"}, "finish_reason": "length"}]
            }
        else:
            text = body["prompt"]
            cuts = sorted({0, *(n for n in range(1, len(text)) if text[n] == " ")})
            if body["model"] == "straddles":
                cuts = [cut for cut in cuts if text[cut:] != " yes"]
            found = {"text_offset": cuts, "token_logprobs": [None, *(-0.5 for _ in cuts[1:])]}
            answer = {"choices": [{"logprobs": None if body["model"] == "silent" else found}]}
        raw = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def address() -> Any:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Server.failures, Server.requests = 0, []
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_a_server_speaks_and_its_replies_are_kept(address: str, tmp_path: Path) -> None:
    model = RemoteModel(address, "m", cache=tmp_path, pause=0.01)
    Server.failures = 2
    first = model.sample([Conversation().human("a"), Conversation().human("b")], count=2, seed=0)
    assert [len(group) for group in first] == [2, 2]
    assert first[0][0].stop.value == "length"
    asked = len(Server.requests)
    assert asked == 6
    assert model.sample([Conversation().human("a"), Conversation().human("b")], count=2, seed=0) == first
    assert len(Server.requests) == asked
    assert not list(tmp_path.glob("*.partial"))


def test_a_server_with_log_probabilities_is_a_language_model(address: str) -> None:
    model = RemoteLanguageModel(address, "m", pause=0.01)
    assert model.score([Conversation().human("is it?")], ["yes it is"])[0].logprobs == (-0.5, -0.5, -0.5)
    with pytest.raises(InputError, match="Speaker, not a LanguageModel"):
        RemoteLanguageModel(address, "silent").score([Conversation().human("is it?")], ["yes"])
    with pytest.raises(InputError, match="border"):
        RemoteLanguageModel(address, "straddles").score([Conversation().human("is it?")], ["yes"])
    assert not hasattr(RemoteModel(address, "m"), "score")


def test_a_server_that_fails_is_named(address: str) -> None:
    with pytest.raises(InputError, match="401"):
        RemoteModel(address, "forbidden").sample([Conversation().human("a")], seed=0)
    with pytest.raises(InputError, match="did not answer"):
        RemoteModel("http://127.0.0.1:9/v1", "m", attempts=2, pause=0.01).sample(
            [Conversation().human("a")], seed=0
        )
