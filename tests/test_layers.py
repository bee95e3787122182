"""The architecture is a test: imports point down from folder to folder, never round, and none hides."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from tests.paths import ROOT

RANKS = (
    ("errors",),
    ("words",),
    ("statistics", "pool"),
    ("data",),
    ("models",),
    ("training",),
    (
        "alignment",
        "evaluation",
        "interpretability",
        "scaling",
    ),  # shelves of method, which do not know each other
    ("records",),
    ("study",),
    ("studies", "tools"),
    ("api",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
RANK = {folder: rank for rank, folders in enumerate(RANKS) for folder in folders}
TORCH_FREE = ("errors", "words", "statistics", "pool", "data", "cli")  # and every paper.py
MOST_FILES, MOST_LINES, LONGEST_FUNCTION = 25, 500, 140


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = {name_of(path): ast.parse(path.read_text()) for path in (ROOT / "solon").rglob("*.py")}
PLAIN = {name: tree for name, tree in MODULES.items() if not name.endswith("__init__")}


def imports(tree: ast.AST) -> Iterator[str]:
    """Solon's modules that are imported; a name in a package that is no module is the package's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "solon":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in PLAIN else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("solon."))


def folder_of(module: str) -> str:
    return module.split(".")[1]


def test_every_folder_has_a_rank() -> None:
    assert {folder_of(name) for name in PLAIN} <= set(RANK)


def test_imports_point_down() -> None:
    for name, tree in PLAIN.items():
        for target in imports(tree):
            if target != "solon" and folder_of(target) != folder_of(name):
                lower = RANK[folder_of(target)] < RANK[folder_of(name)]
                assert lower, f"{name} may not import {target}"


def test_no_import_goes_round() -> None:
    TopologicalSorter(
        {name: set(imports(tree)) for name, tree in PLAIN.items()}
    ).prepare()  # raises CycleError


def test_studies_are_leaves() -> None:
    for name, tree in PLAIN.items():
        for target in imports(tree):
            if target.startswith("solon.studies."):
                assert target.split(".")[:3] == name.split(".")[:3], f"{name} may not import {target}"


def test_only_studies_and_their_engine_write_records() -> None:
    for name, tree in PLAIN.items():
        if RANK[folder_of(name)] < RANK["records"]:
            assert not [target for target in imports(tree) if target.startswith("solon.records")], name


def test_no_import_hides_in_a_function_or_behind_type_checking() -> None:
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.If, ast.Try)):
                inner = [child for child in ast.walk(node) if isinstance(child, (ast.Import, ast.ImportFrom))]
                assert not inner, f"{name}: {getattr(node, 'name', type(node).__name__)} hides an import"


def test_words_need_no_torch() -> None:
    for name, tree in PLAIN.items():
        if folder_of(name) in TORCH_FREE or name.endswith(".paper"):
            names = [
                alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
            ]
            names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
            assert not {own.partition(".")[0] for own in names} & {"torch", "transformers"}, name


def test_modules_functions_and_folders_stay_small() -> None:
    for folder in ("solon", "tests", "benchmarks", "examples", "docs"):
        for path in (ROOT / folder, *(ROOT / folder).rglob("*/")):
            files = [own for own in path.glob("*") if own.is_file() and own.name != "__init__.py"]
            assert len(files) <= MOST_FILES, f"{path} has {len(files)} files"
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno
                assert length < LONGEST_FUNCTION, f"{name}: {node.name} has {length} lines"
    for path in (ROOT / "solon").rglob("*.py"):
        lines = path.read_text().count("\n")
        assert lines <= MOST_LINES, f"{path} has {lines} lines"
