"""The documentation: links and pictures exist, every page is in the navigation, none names a machine."""

import ast
import dataclasses
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import solon
from solon.cli import main
from solon.commands.studies import table
from solon.study.paper import papers, runs
from tests.paths import ROOT
from tests.test_layers import RANK

STUDIES = sorted((ROOT / "solon" / "studies").glob("*/study.py"))
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "solon" / "studies").glob("*/README.md"),
    ]
)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python(?: title=\"([^\"]+)\")?\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
MACHINE = re.compile(r"(?<![\w.~/])/(?:home|root|tmp|work|mnt|Users)/\w")


def links(page: Path) -> list[str]:
    """Relative targets outside fenced code, without their anchors."""
    found = ["".join(groups) for groups in LINK.findall(FENCED.sub("", page.read_text()))]
    return [target.partition("#")[0] for target in found if not re.match(r"[a-z]+:|#", target)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_exist(page: Path) -> None:
    for target in links(page):
        assert (page.parent / target).resolve().exists(), f"{target} does not exist"
        assert not (page.parent / target).is_dir(), f"{target} is a folder: link a page"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_machine(page: Path) -> None:
    assert not MACHINE.findall(page.read_text())


def test_every_study_has_its_page_and_shows_its_picture() -> None:
    for study in STUDIES:
        page = study.with_name("README.md")
        assert page.exists(), f"{study.parent.name} has no README.md"
        for picture in study.parent.glob("*.svg"):
            assert picture.name in links(page), f"{picture.name} is not shown in {page}"


def test_every_page_is_in_the_navigation() -> None:
    """docs/hooks.py adds the papers and the decisions."""
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").as_posix()
        listed = name.startswith("decisions/") or re.search(rf"[ :]{re.escape(name)}\b", nav)
        assert listed, f"{name} is in no menu"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_imports_in_examples_exist(page: Path) -> None:
    for _, code in PYTHON.findall(page.read_text()):
        for node in ast.walk(ast.parse(code)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "solon"
            ):
                assert node.attr in solon.FACE, f"solon has no {node.attr}"
            known = isinstance(node, ast.ImportFrom) and ".answer_order." not in str(node.module)
            if known and str(node.module).startswith("solon"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert alias.name in vars(module), f"{node.module} has no {alias.name}"


def test_the_architecture_shows_every_folder() -> None:
    docs = ROOT / "docs"
    page, picture = ((docs / name).read_text() for name in ("architecture.md", "assets/architecture.svg"))
    for folder in RANK:
        if (ROOT / "solon" / folder).is_dir():
            assert f"`{folder}/" in page, f"{folder} is not in docs/architecture.md"
            assert f">{folder}<" in picture or f" {folder}<" in picture, f"{folder} is not in the picture"


def test_the_study_of_the_recipe_is_built_from_its_folder_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CONTRIBUTING.md adds a paper: one folder and one test."""
    files = dict(PYTHON.findall((ROOT / "CONTRIBUTING.md").read_text()))
    studies = tmp_path / "solon" / "studies"
    (studies / "answer_order").mkdir(parents=True)
    (studies / "answer_order" / "__init__.py").touch()
    for name, code in files.items():
        if name.startswith("solon/"):
            (tmp_path / name).write_text(code)
    monkeypatch.setattr("solon.studies.__path__", [str(studies)])
    monkeypatch.setattr("solon.study.paper.FOLDER", studies)
    papers.cache_clear()
    try:
        assert main(["run", "answer_order", "--runs", str(tmp_path / "runs"), "--json"]) == 0
        claims = {row["name"]: row["holds"] for row in json.loads(capsys.readouterr().out)["claims"]}
        assert claims == {"same/words": True, "same/letters": False}
        assert main(["run", "answer_order", "smollm2"]) == 2  # its need is required
        assert "--questions" in capsys.readouterr().err
        test: dict[str, Any] = {}
        exec(files["tests/studies/test_answer_order.py"], test)
        test["test_a_killed_study_finds_what_was_planted"](tmp_path / "killed")
    finally:
        papers.cache_clear()
        for module in [name for name in sys.modules if name.startswith("solon.studies.answer_order")]:
            del sys.modules[module]


def test_the_readme_lists_the_studies() -> None:
    """What `solon studies --markdown` prints stands between the markers."""
    page = (ROOT / "README.md").read_text()
    listed = page.partition("<!-- studies:begin -->")[2].partition("<!-- studies:end -->")[0]
    assert listed.strip() == table().strip()


def test_every_need_of_a_paper_is_on_its_page() -> None:
    for name in filter(runs, papers()):
        page = (ROOT / "solon" / "studies" / name / "README.md").read_text()
        for need in papers()[name].needs:
            assert f"`--{need.flag.replace('_', '-')}`" in page, f"{name}: --{need.flag} is not on its page"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_flags_of_studies_exist(page: Path) -> None:
    """Every flag of a `solon run STUDY ...` in fenced code is one of the study's."""
    code = "".join(FENCED.findall(page.read_text())).replace("\\\n", " ")
    for name, words in re.findall(r"solon run (\w+)([^\n#&]*)", code):
        if name in papers():
            study = vars(importlib.import_module(f"solon.studies.{name}.study")).get("STUDY")
            if study is None:
                continue
            options = study.defaults("quick")
            fields = {*vars(options), *(field.name for field in dataclasses.fields(options.settings))}
            for flag in re.findall(r"--(?:no-)?([a-z][a-z0-9-]*)", words.replace("--help", "")):
                assert flag.replace("-", "_") in fields, f"{name} has no flag --{flag}"
