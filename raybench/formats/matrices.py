"""`.npy` files, and the clip-retrieval folder of them: C order, no pickles, numeric order of parts.

    <folder>/img_emb/img_emb_0000.npy     one matrix a part; likewise text_emb/text_emb_0000.npy

Sources: numpy's format specification (NEP 1); the layout of clip-retrieval's inference output.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from raybench import storage
from raybench.errors import DataError
from raybench.formats.base import Matrix, VectorFile
from raybench.formats.flat import FlatFile, opened, replacing, size_bytes
from raybench.formats.writing import check_dtype, check_plain, runs
from raybench.storage import FileFacts

HELD = ("float16", "float32", "float64", "int8", "uint8")
_FOLDERS = {"image": "img_emb", "text": "text_emb"}


@dataclass(frozen=True, slots=True)
class Npy:
    """One matrix in an `.npy` file."""

    path: str

    def open(self) -> FlatFile:
        """The matrix, unread."""
        with opened(self.path) as file:
            try:
                version = np.lib.format.read_magic(file)
                reader = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, is_fortran, dtype = reader(file)
                offset = file.tell()
            except (ValueError, OSError) as error:
                raise DataError(
                    f"{self.path} is no .npy matrix: {str(error).splitlines()[0]}; write it with numpy.save"
                ) from None
        if len(shape) != 2 or dtype.name not in HELD or not dtype.isnative:
            raise DataError(f"{self.path} holds {dtype} of shape {shape}; vectors are two axes of {', '.join(HELD)}")
        if is_fortran and min(shape) > 1:
            raise DataError(f"{self.path} is in Fortran order; write it again with numpy.ascontiguousarray")
        expected, found = offset + shape[0] * shape[1] * dtype.itemsize, size_bytes(self.path)
        if expected != found:
            raise DataError(f"{self.path} has {found} bytes, its header says {expected}; fetch or write it again")
        return FlatFile(self.path, shape[0], shape[1], dtype, offset)

    def write(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """Write all rows."""
        check_dtype(dtype, HELD, ".npy")
        check_plain(file, ".npy")
        if file.is_bits:
            raise DataError(".npy cannot say that bytes are packed bits; write SISAP's HDF5 instead")
        with replacing(self.path) as path, path.open("wb") as out:
            header = {
                "descr": np.lib.format.dtype_to_descr(dtype),
                "fortran_order": False,
                "shape": (file.rows, file.dim),
            }
            np.lib.format.write_array_header_1_0(out, header)
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
        """The ids of a run, where the parts have ids of their own."""
        found = [part.ids(low, high) for part, low, high, _ in self._ranges(start, stop)]
        held = [ids for ids in found if ids is not None]
        return np.concatenate(held) if held and len(held) == len(found) else None

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
    """Several files as one. DataError where there are none, or where they differ in width or dtype."""
    if not parts:
        raise DataError(f"{where} holds no vectors; check the path")
    for part, name in zip(parts, names, strict=True):
        if (part.dim, part.dtype) != (parts[0].dim, parts[0].dtype):
            raise DataError(
                f"{where} mixes {parts[0].dtype} of {parts[0].dim} dimensions ({names[0]}) and {part.dtype} of "
                f"{part.dim} ({name}); embed it again"
            )
    return parts[0] if len(parts) == 1 else Joined(tuple(parts))


@dataclass(frozen=True, slots=True)
class ClipRetrieval:
    """A folder of embeddings as clip-retrieval, img2dataset's neighbours and raybench itself write it."""

    folder: str
    modality: Literal["image", "text"] = "image"

    def open(self) -> VectorFile:
        """The parts in the order of their numbers."""
        place = storage.join(self.folder, _FOLDERS[self.modality])
        names = sorted((file.name for file in storage.list_files(place, ".npy") if "/" not in file.name), key=_number)
        if not names:
            raise DataError(
                f"{self.folder} holds no {_FOLDERS[self.modality]}/*.npy; check the folder and the modality"
            )
        return join([Npy(storage.join(place, name)).open() for name in names], names, place)

    def write(self, file: VectorFile, dtype: np.dtype[Any]) -> None:
        """One part of all rows."""
        name = _FOLDERS[self.modality]
        Npy(storage.join(self.folder, name, f"{name}_0000.npy")).write(file, dtype)


def _number(name: str) -> tuple[int, str]:
    digits = re.findall(r"\d+", name)
    return (int(digits[-1]) if digits else 0, name)
