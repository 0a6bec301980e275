"""The notebooks: they run from top to bottom in a quick mode, draw their figures, and are stored without outputs."""

from pathlib import Path

import nbformat
import pytest
from examples.processes import HANG
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
EXECUTED = Path(__file__).parent.parent / "build" / "notebooks"
"""Executed copies, the gallery of the documentation; git ignores them."""


def execute(notebook, folder):
    """Run all cells in a kernel of its own; an assertion of the notebook that fails is raised here."""
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=HANG, startup_timeout=HANG, kernel_name="python3", resources=where)
    return client.execute()


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_and_its_conclusions_hold(path, tmp_path, monkeypatch):
    monkeypatch.setenv("INFIELD_QUICK", "1")
    notebook = execute(nbformat.read(path, as_version=4), tmp_path)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    drawn = [cell for cell in notebook.cells if "plt.subplots" in cell.source]
    assert len(pictures) == len(drawn) > 0
    assert any("assert " in cell.source for cell in notebook.cells)
    assert not [output for output in outputs if output.get("name") == "stderr"]
    EXECUTED.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, EXECUTED / path.name)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert path.stat().st_size < 50_000
    for cell in notebook.cells:
        assert cell.cell_type == "markdown" or (not cell.outputs and cell.execution_count is None)


def test_a_conclusion_that_does_not_hold_is_noticed(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("assert 1 > 2")])
    with pytest.raises(CellExecutionError, match="AssertionError"):
        execute(notebook, tmp_path)


def test_there_is_a_first_notebook():
    assert NOTEBOOKS and NOTEBOOKS[0].name == "00_first_posterior.ipynb"
