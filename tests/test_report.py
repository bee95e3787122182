"""What the report says in plain words when something has gone wrong."""

from solon.studies.constitutional_ai.evidence import Signs
from solon.studies.constitutional_ai.report import collapse_warning, signs_section

START = {
    "refusals": 0.05,
    "evasive boilerplate": 0.0,
    "repeated phrases": 0.01,
    "cut off at the limit": 0.5,
    "tokens": 40.0,
}


def collapsed(axis: str, **changed: float) -> str:
    return collapse_warning(axis, START, after(**changed))


def after(**changed: float) -> Signs:
    return {**START, **{name.replace("_", " "): value for name, value in changed.items()}}


def warnings(axis: str, **changed: float) -> tuple[str, ...]:
    signs = {name: {"start": START, "final": START} for name in ("harmless", "helpful")}
    signs[axis] = {"start": START, "final": {**after(**changed)}}
    return signs_section(signs).warnings


def test_a_model_that_says_one_thing_or_refuses_everything_is_said_to_have_collapsed() -> None:
    assert warnings("harmless") == ()
    assert "repeated phrases went from 1% to 100%" in collapsed("harmless", repeated_phrases=1.0)
    # of harmful requests, that may be right
    assert collapsed("harmless", refusals=0.9) == ""
    assert "refusals went from 5% to 90%" in collapsed("helpful", refusals=0.9)
    assert len(warnings("helpful", refusals=0.9)) == 1
    assert collapsed("helpful", refusals=0.4) == ""
