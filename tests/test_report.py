"""What the report says in plain words when something has gone wrong."""

from dataclasses import replace

from solon.studies.constitutional_ai.evidence import Findings
from solon.studies.constitutional_ai.report import collapsed, warnings

START = {
    "refusals": 0.05,
    "evasive boilerplate": 0.0,
    "repeated phrases": 0.01,
    "cut off at the limit": 0.5,
    "tokens": 40.0,
}
FOUND = Findings({}, {}, {}, {("harmless", "start"): START, ("helpful", "start"): START}, {}, {}, [])


def after(axis: str, **changed: float) -> Findings:
    shares = {**START, **{name.replace("_", " "): value for name, value in changed.items()}}
    return replace(FOUND, words={**FOUND.words, (axis, "final"): shares})


def test_a_model_that_says_one_thing_or_refuses_everything_is_said_to_have_collapsed() -> None:
    assert warnings(after("harmless"), []) == []
    assert "repeated phrases went from 1% to 100%" in collapsed(
        "harmless", after("harmless", repeated_phrases=1.0)
    )
    # of harmful requests, that may be right
    assert collapsed("harmless", after("harmless", refusals=0.9)) == ""
    assert "refusals went from 5% to 90%" in collapsed("helpful", after("helpful", refusals=0.9))
    assert len(warnings(after("helpful", refusals=0.9), [])) == 1
    assert collapsed("helpful", after("helpful", refusals=0.4)) == ""
