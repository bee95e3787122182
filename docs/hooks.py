"""Hooks of mkdocs: pages that stand outside docs/ become pages of the site, and links between them are kept.

`README.md` is the home page; `CHANGELOG.md`, `CONTRIBUTING.md` and the scripts of `examples/` are pages; every
`solon/studies/<paper>/README.md` is `papers/<paper>.md`, its pictures beside it. Nothing is copied in the
repository, and no paper is listed by hand.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")


def on_config(config: Any) -> Any:
    """Lists the papers and the decisions in the navigation."""
    for section in config.nav:
        if "Papers" in section:
            section["Papers"] += [f"papers/{page.parent.name}.md" for page in papers()]
        if "Design" in section:
            decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
            section["Design"][-1]["Decisions"] = [f"decisions/{page.name}" for page in decisions]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages and pictures that stand outside docs/."""
    for path, uri in outside().items():
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    files.append(File.generated(config, "examples.md", content=examples()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Points relative links of the repository at the pages of the site."""
    if page.file.abs_src_path is None:  # a page that was written here
        return markdown
    source = Path(page.file.abs_src_path)
    uris = outside() | {path: path.relative_to(ROOT / "docs").as_posix() for path in inside()}

    def moved(match: re.Match[str]) -> str:
        before, target, anchor, after = match.groups()
        uri = uris.get((source.parent / target).resolve())
        if uri is None:
            return match.group()
        relative = os.path.relpath(uri, Path(page.file.src_uri).parent)
        return f"{before}{Path(relative).as_posix()}{anchor or ''}{after}"

    return LINK.sub(moved, markdown)


def examples() -> str:
    """A page of all scripts in examples/, each under the first sentence of its docstring."""
    parts = ["# Examples\n\nEach script runs as it stands; `examples/notebooks/` has three notebooks."]
    for path in sorted((ROOT / "examples").glob("*.py")):
        code = path.read_text()
        title = (ast.get_docstring(ast.parse(code)) or path.stem).splitlines()[0].partition(": python ")[0]
        parts.append(f'## {title}\n\n```python title="examples/{path.name}"\n{code.rstrip()}\n```')
    return "\n\n".join(parts) + "\n"


def papers() -> list[Path]:
    return sorted((ROOT / "solon" / "studies").glob("*/README.md"))


def inside() -> list[Path]:
    return [path for path in (ROOT / "docs").rglob("*") if path.is_file()]


def outside() -> dict[Path, str]:
    """Every file outside docs/ that is part of the site, with its address in it."""
    found = {ROOT / name: uri for name, uri in PAGES.items() if (ROOT / name).exists()}
    for page in papers():
        found[page] = f"papers/{page.parent.name}.md"
        for picture in page.parent.glob("*.svg"):
            found[picture] = f"papers/{page.parent.name}/{picture.name}"
    return found
