"""Measure two models on your own questions, item by item: python measure_and_compare.py A B"""

import json
import sys
from pathlib import Path

import solon
from solon.statistics.intervals import paired_difference

QUESTIONS = [
    {"question": "Which of these is a bird?", "choices": ["a sparrow", "a salmon", "a spider"], "answer": 0},
    {"question": "Which is the largest?", "choices": ["a house", "a mountain", "a shoe"], "answer": 1},
    {"question": "What do you use to cut bread?", "choices": ["a spoon", "a pillow", "a knife"], "answer": 2},
    {"question": "Which month comes after May?", "choices": ["April", "June", "March"], "answer": 1},
]


def main(first: str = "smollm2", second: str = "gemma3-270m") -> None:
    path = Path("questions.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    results = [solon.evaluate(solon.load(name), path) for name in (first, second)]
    for name, result in zip((first, second), results, strict=True):
        print(f"{name}: accuracy {result.accuracy}")
    right = [[float(row.correct or False) for row in result.rows] for result in results]
    print(f"difference: {paired_difference(right[0], right[1])}")


if __name__ == "__main__":
    main(*sys.argv[1:])
