"""`.npy` files, and the clip-retrieval folder of them: C order, no pickles, numeric order of parts.

    <folder>/img_emb/img_emb_0000.npy     one matrix a part; likewise text_emb/text_emb_0000.npy

Sources: numpy's format specification (NEP 1); the layout of clip-retrieval's inference output.
"""

import re
from dataclasses import dataclass
from tokenize import TokenError
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from raybench import storage
from raybench.errors import DataError
from raybench.formats.base import Matrix, VectorFile
from raybench.formats.flat import FlatFile, opened, replacing, size_bytes
from raybench.formats.writing import HELD, check_dtype, check_plain, runs
from raybench.storage import FileFacts


@dataclass(frozen=True, slots=True)
class Npy:
    """One matrix in an `.npy` file."""

    path: str

    def open(self) -> FlatFile:
        """The matrix, unread."""
        shape, is_fortran, dtype, offset = self._header()
        if dtype.hasobject:
            raise DataError(f"{self.path} holds pickled objects, which are never loaded; write numbers with numpy.save")
        if len(shape) != 2 or dtype.name not in HELD or not dtype.isnative:
            raise DataError(f"{self.path} holds {dtype} of shape {shape}; vectors are two axes of {', '.join(HELD)}")
        rows, dim = (int(one) for one in shape)
        if rows < 0 or dim < 1:
            raise DataError(f"{self.path} has shape {shape}, which no vectors have; write it again")
        if is_fortran and min(shape) > 1:
            raise DataError(f"{self.path} is in Fortran order; write it again with numpy.ascontiguousarray")
        expected, found = offset + rows * dim * dtype.itemsize, size_bytes(self.path)
        if expected != found:
            raise DataError(f"{self.path} has {found} bytes, its header says {expected}; fetch or write it again")
        return FlatFile(self.path, rows, dim, dtype, offset)

    def _header(self) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
        with opened(self.path) as file:
            try:
                version = np.lib.format.read_magic(file)
                is_first = version == (1, 0)
                read = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
                shape, is_fortran, dtype = read(file)
            except (ValueError, TypeError, SyntaxError, KeyError, RecursionError, MemoryError, TokenError) as error:
                # numpy evaluates the header as a literal, which fails in as many ways as there are wrong literals.
                reason = (str(error) or type(error).__name__).splitlines()[0]
                raise DataError(f"{self.path} is no .npy matrix: {reason}; write it with numpy.save") from None
            return shape, is_fortran, dtype, file.tell()

    def check(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """DataError for vectors that have no place here."""
        check_dtype(dtype, HELD, ".npy")
        check_plain(file, ".npy")
        if file.is_bits:
            raise DataError(".npy cannot say that bytes are packed bits; write SISAP's HDF5 instead")

    def write(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """Write all rows."""
        descr, shape = np.lib.format.dtype_to_descr(dtype), (file.rows, file.dim)
        with replacing(self.path) as path, path.open("wb") as out:
            np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
            for rows_BD in runs(file, dtype):
                out.write(rows_BD.data)


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Several files of one width and dtype, one after the other."""

    parts: tuple[VectorFile, ...]

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def dim(self) -> int:
        """Dimensions."""
        return self.parts[0].dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of all parts."""
        return self.parts[0].dtype

    @property
    def is_bits(self) -> bool:
        """Whether bits are packed."""
        return self.parts[0].is_bits

    @property
    def files(self) -> tuple[FileFacts, ...]:
        """The files of all parts."""
        return tuple(one for part in self.parts for one in part.files)

    def read_into(self, start: int, out_BD: Matrix) -> None:
        """Fill a buffer with the rows from `start`."""
        for part, low, high, place in self._ranges(start, start + len(out_BD)):
            part.read_into(low, out_BD[place : place + high - low])

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64] | None:
        """The ids of a run, where the parts have ids of their own: all have, or none."""
        found = [part.ids(low, high) for part, low, high, _ in self._ranges(start, stop)] or [self.parts[0].ids(0, 0)]
        held = [ids for ids in found if ids is not None]
        return np.concatenate(held) if held else None

    def _ranges(self, start: int, stop: int) -> list[tuple[VectorFile, int, int, int]]:
        """Parts with the rows of each that are in a run, and where they begin in it."""
        ranges, first = [], 0
        for part in self.parts:
            low, high = max(start - first, 0), min(stop - first, part.rows)
            if low < high:
                ranges.append((part, low, high, first + low - start))
            first += part.rows
        return ranges


def join(parts: list[VectorFile], names: list[str], where: str) -> VectorFile:
    """Several files as one; those without rows are left out. DataError where there are none, or where they differ."""
    if not parts:
        raise DataError(f"{where} holds no vectors; check the path")
    held = [(part, name) for part, name in zip(parts, names, strict=True) if part.rows] or [(parts[0], names[0])]
    first, first_name = held[0]
    for part, name in held:
        if (part.dim, part.dtype) != (first.dim, first.dtype):
            raise DataError(
                f"{where} mixes {first.dtype} of {first.dim} dimensions ({first_name}) and {part.dtype} of "
                f"{part.dim} ({name}); embed it again"
            )
        if (part.ids(0, 0) is None) != (first.ids(0, 0) is None):
            raise DataError(f"{where}: of {first_name} and {name} only one has ids; write them alike")
    return first if len(held) == 1 else Joined(tuple(part for part, _ in held))


@dataclass(frozen=True, slots=True)
class ClipRetrieval:
    """A folder of embeddings as clip-retrieval and raybench itself write it."""

    folder: str
    modality: Literal["image", "text"] = "image"

    def open(self) -> VectorFile:
        """The parts in the order of their numbers."""
        names = self._parts()
        if not names:
            raise DataError(f"{self.folder} holds no {self._name}/*.npy; check the folder and the modality")
        numbers = [_number(name) for name in names]
        for before, name, last, number in zip(names, names[1:], numbers, numbers[1:], strict=False):
            if number == last:
                raise DataError(f"{self._place} has {before} and {name}, of one number; leave only one of them")
            # raybench writes no part for a shard without images, and its manifest accounts for every row.
            if number != last + 1 and not storage.exists(storage.join(self.folder, storage.MANIFEST)):
                raise DataError(f"{self._place} has no part between {before} and {name}; fetch it, or number them anew")
        return join([Npy(storage.join(self._place, name)).open() for name in names], names, self._place)

    def check(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """DataError for vectors that have no place here, or a folder with parts that would be mixed with them."""
        others = [name for name in self._parts() if name != f"{self._name}_0000.npy"]
        if others:
            raise DataError(f"{self._place} already has {others[0]}; write into an empty folder")
        Npy(self._place).check(file, dtype)

    def write(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """One part of all rows."""
        Npy(storage.join(self._place, f"{self._name}_0000.npy")).write(file, dtype)

    def part_rows(self) -> dict[int, int]:
        """The rows of each part, by its number."""
        return {_number(name): Npy(storage.join(self._place, name)).open().rows for name in self._parts()}

    @property
    def _name(self) -> str:
        return "img_emb" if self.modality == "image" else "text_emb"

    @property
    def _place(self) -> str:
        return storage.join(self.folder, self._name)

    def _parts(self) -> list[str]:
        names = [file.name for file in storage.list_files(self._place, ".npy") if "/" not in file.name]
        return sorted(names, key=lambda name: (_number(name), name))


def _number(name: str) -> int:
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else 0
