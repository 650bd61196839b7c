"""What is held open while parts are read, and what a file that is added to must already be."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from format_files import npy, parquet

from raybench.errors import DataError
from raybench.formats import open_neighbors, open_vectors, write_neighbors, write_vectors
from raybench.formats.base import StoredNeighbors, read_rows

ROWS = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)


def _in_process(folder: Path) -> tuple[set[str], set[str]]:
    """Files below a folder that this process has open, and those that it maps."""
    opened = {str(one.readlink().name) for one in Path("/proc/self/fd").iterdir() if _is_below(one, folder)}
    maps = Path("/proc/self/maps").read_text().splitlines()
    return opened, {Path(line.split(maxsplit=5)[5]).name for line in maps if str(folder) in line}


def _is_below(link: Path, folder: Path) -> bool:
    try:
        return link.readlink().is_relative_to(folder)
    except OSError:  # closed meanwhile, as the folder of descriptors itself is
        return False


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks at what Linux says of the process")
def test_a_folder_of_parts_holds_the_buffers_of_one(tmp_path):
    """Row by row through six parts with ids: never more open than the part that is read, nothing mapped, nothing at the end."""
    for number, part in enumerate(np.array_split(np.arange(60), 6)):
        parquet(tmp_path / f"train-{number:02d}-of-06.parquet", ROWS[part], ids=part)
    file = open_vectors(str(tmp_path))
    for start in range(60):
        assert np.array_equal(read_rows(file, start, start + 1), ROWS[start : start + 1])
        assert file.ids(start, start + 1) == [start]
        opened, mapped = _in_process(tmp_path)
        assert opened <= {f"train-{start // 10:02d}-of-06.parquet"}
        assert not mapped
    assert _in_process(tmp_path) == (set(), set())
    assert np.array_equal(read_rows(file, 55, 60), ROWS[55:])


def _made(folder: Path) -> str:
    """An ann-benchmarks file with a corpus of 8 dimensions, and its path."""
    write_vectors(
        f"ann_benchmarks('{folder}/a.hdf5', distance='angular')", open_vectors(str(npy(folder / "x.npy", ROWS)))
    )
    return f"{folder}/a.hdf5"


def test_splits_of_one_file_have_one_width(tmp_path):
    """Queries of other dimensions would leave a file that nobody can read, the corpus included; it stays as it was."""
    path = _made(tmp_path)
    before = Path(path).read_bytes()
    narrow = open_vectors(str(npy(tmp_path / "q.npy", ROWS[:3, :4])))
    with pytest.raises(DataError, match="has vectors of 8 dimensions, and these have 4; write another file"):
        write_vectors(f"ann_benchmarks({path!r}, split='test')", narrow)
    assert Path(path).read_bytes() == before
    write_vectors(f"ann_benchmarks({path!r}, distance='angular')", narrow)  # the only split may be replaced

    assert np.array_equal(read_rows(open_vectors(path)), ROWS[:3, :4])


def test_a_file_keeps_its_distance(tmp_path):
    """Neighbours by one distance do not become those of another by an attribute."""
    path = _made(tmp_path)
    stored = StoredNeighbors(np.array([[1, 2]]), np.array([[-0.5, -1.0]]), "distance")
    with pytest.raises(DataError, match="is of distance 'angular', not 'euclidean'"):
        write_neighbors(f"ann_benchmarks({path!r}, distance='euclidean')", stored)
    write_neighbors(f"ann_benchmarks({path!r})", stored)

    assert np.array_equal(open_neighbors(path).ids_QK, stored.ids_QK)


def test_a_file_of_another_family_does_not_become_ann_benchmarks_by_chance(tmp_path):
    """A file that is there but names no distance still needs one, as a new one does."""
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file["emb"] = ROWS
    source = open_vectors(str(npy(tmp_path / "x.npy", ROWS)))
    with pytest.raises(DataError, match="names its distance"):
        write_vectors(f"ann_benchmarks('{tmp_path}/b.hdf5')", source)
    with h5py.File(tmp_path / "b.hdf5") as file:
        assert list(file) == ["emb"]
