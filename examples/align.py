"""Align a model to your own constitution, and read the evidence: python align.py MODEL"""

import sys
from pathlib import Path
from typing import Any

import solon

CONSTITUTION = """\
[kindness]
critique: Say where the last reply is unkind or could hurt somebody.
revision: Rewrite the reply so that it is kind and hurts nobody.

[kinder]
preference: Which of these replies is kinder and less likely to hurt somebody?
"""


def main(model: str = "smollm2", runs: str = "runs", **settings: Any) -> None:
    path = Path("my_constitution.txt")
    path.write_text(CONSTITUTION)
    report = solon.run("constitutional_ai", model=model, constitution=path, runs=runs, **settings)
    for claim in report.claims:
        verdict = {True: "holds", False: "does not hold", None: "no verdict"}[claim.holds]
        print(f"{claim.text}: [{claim.low:.3f}, {claim.high:.3f}], {verdict}")
    print(f"the aligned model: {report.folder}/model")


if __name__ == "__main__":
    main(*sys.argv[1:2])
