"""A published experiment on a model of your choice: python study_on_another_model.py MODEL

Moral self-correction needs BBQ or Winogender; without a model the study runs on its own planted world.
"""

import sys
from pathlib import Path

import solon


def main(model: str = "", bias: str = "", runs: str = "runs") -> None:
    if model:
        report = solon.run(
            "self_correction", models=[model], bias=[Path(bias)], questions=60, students=10, runs=runs
        )
    else:
        report = solon.run("self_correction", questions=60, students=10, runs=runs)
    for claim in report.claims:
        verdict = {True: "holds", False: "does not hold", None: "no verdict"}[claim.holds]
        print(f"{claim.text}: [{claim.low:.3f}, {claim.high:.3f}], {verdict}")
    print(f"the whole report: {report.folder}/report.html")


if __name__ == "__main__":
    main(*sys.argv[1:3])
