"""Every notebook runs from top to bottom (an extra: `make test-extras`)."""

from pathlib import Path

import pytest

from tests.paths import ROOT

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


@pytest.mark.extra
@pytest.mark.model
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    client = pytest.importorskip("nbclient", reason="nbclient is an extra: pip install 'solon[notebooks]'")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    pytest.importorskip("pandas")
    notebook = nbformat.read(path, as_version=4)
    client.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert all(
        "error" not in {output.output_type for output in cell.get("outputs", ())} for cell in notebook.cells
    )


def test_notebooks_keep_no_output() -> None:
    for path in NOTEBOOKS:
        assert '"outputs": []' in path.read_text() and '"output_type"' not in path.read_text()
