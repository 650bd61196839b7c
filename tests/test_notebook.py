"""The notebook runs from top to bottom on a run's folder, and is kept without outputs."""

import itertools
from pathlib import Path

import nbclient
import nbformat
import pytest
import report_folder

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "results_tour.ipynb"


def test_notebook_is_kept_without_outputs() -> None:
    """No cell in the repository holds an output or an execution count, and the file is a valid notebook."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)


def test_every_code_cell_is_explained() -> None:
    """A code cell follows a cell of words."""
    kinds = [cell.cell_type for cell in nbformat.read(NOTEBOOK, as_version=4).cells]
    assert all(before == "markdown" for before, kind in itertools.pairwise(kinds) if kind == "code")


def test_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All cells run on a fresh folder, draw at least four plots, and print the values of the records."""
    made = report_folder.make(tmp_path / "run", images=12, gallery=1)
    monkeypatch.setenv("RAYBENCH_OUT", made.uri)
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    table = next(output.data["text/html"] for output in outputs if "text/html" in output.get("data", {}))
    for record in made.records[:5]:
        assert f"{round(record.value, 3):.3f}".rstrip("0") in table, record.measure
