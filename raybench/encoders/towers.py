"""What every model of torch shares: the device, the arithmetic of pixels, and unit vectors that are checked.

Pixels arrive as uint8 and are scaled on the device: divided by 255, less the mean, divided by the deviation, each in
float32 and in that order, so that on a CPU they equal torchvision's ToTensor and Normalize bit for bit; only then are
they cast to the model's precision. Vectors leave in float32 and are brought to unit length in float64 whatever the
precision was: an fp16 norm would overflow or lose digits. A row that is not finite or has no direction is an error.

The size of a batch does not change a vector by more than `TOLERANCE` of its precision in any component: kernels for
different shapes add up in different orders, and nothing else may differ.

Axes: B batch, H height, W width, C channels, D dimensions, L tokens.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from raybench.encoders.base import Precision
from raybench.encoders.preprocess import Preprocess
from raybench.errors import DataError, RaybenchError, RequestError, WorkError

DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Of a component of a unit vector. On CPUs seven architectures of open_clip stayed below 2e-7 in fp32, 8e-5 in bf16.
TOLERANCE: Mapping[str, float] = {"fp32": 1e-5, "bf16": 1e-2, "fp16": 2e-3}

# A tokenizer needs 2 s for one word of 5,000 letters and 115 s for one of 80,000. No model reads past its context, and
# a token of a caption has 4 letters, so what is cut here is out of the model's reach in anything but an attack.
_LETTERS_PER_TOKEN = 32


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model runs and in which numbers."""

    device: torch.device
    precision: Precision
    threads: int

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations."""
        return DTYPES[self.precision]

    @property
    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        cuda = self.device.type == "cuda"
        name = torch.cuda.get_device_name(self.device) if cuda else "cpu"
        return {"device": name, "threads": self.threads, "precision": self.precision, "tf32": False}


def place(device: str, threads: int, precision: Precision) -> Place:
    """Take a device: "cpu", "cuda" (or "cuda:1"), or "auto"; sets this process's CPU threads and turns TF32 off."""
    if threads < 1:
        raise RequestError(f"threads={threads} cannot run a model; give at least 1")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise RequestError(f"no device is called {device!r}; use 'cpu', 'cuda' or 'auto'")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RequestError(f"this process sees no GPU for device={device!r}; give it one, or use 'auto' or 'cpu'")
    if device == "cpu" and precision == "fp16":
        raise RequestError("precision='fp16' needs a GPU: a CPU has no fast fp16 arithmetic; use 'bf16' or 'fp32' here")
    torch.set_num_threads(threads)
    # TF32 keeps 10 bits of each factor, and convolutions (the first layer of every vision tower) use it by default.
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # set by torch at run time
    torch.backends.cudnn.rnn.fp32_precision = "ieee"  # type: ignore[attr-defined]  # conv and rnn must agree
    return Place(torch.device(device), precision, threads)


@dataclass(frozen=True, slots=True, eq=False)
class Towers:
    """A loaded model behind the two methods of an encoder; made by `towers`, which measures `dim`."""

    image_tower: Callable[[torch.Tensor], torch.Tensor]
    text_tower: Callable[[list[str]], torch.Tensor]
    pixels: Preprocess
    place: Place
    context_length: int
    dim: int
    facts: Mapping[str, Any]

    def images(self, pixels_BHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Unit vectors [B, D], float32, of uint8 pixels. Raises DataError for other shapes, WorkError for bad rows."""
        expected = (self.pixels.height, self.pixels.width, 3)
        if pixels_BHWC.dtype != np.uint8 or pixels_BHWC.shape[1:] != expected:
            got = f"{pixels_BHWC.dtype} {list(pixels_BHWC.shape)}"
            raise DataError(f"pixels are {got}; this model reads uint8 [batch, {', '.join(map(str, expected))}]")
        if not len(pixels_BHWC):
            return np.zeros((0, self.dim), np.float32)
        with torch.inference_mode():
            return unit(self.image_tower(scale(pixels_BHWC, self.pixels, self.place)), "image", self.place)

    def texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors [B, D], float32, of captions. Raises DataError for what is no text, WorkError for bad rows."""
        captions = [_caption(text, row, self.context_length) for row, text in enumerate(texts)]
        if not captions:
            return np.zeros((0, self.dim), np.float32)
        with torch.inference_mode():
            return unit(self.text_tower(captions), "text", self.place)


def towers(
    image_tower: Callable[[torch.Tensor], torch.Tensor],
    text_tower: Callable[[list[str]], torch.Tensor],
    pixels: Preprocess,
    place: Place,
    context_length: int,
    facts: Mapping[str, Any],
) -> Towers:
    """The encoder of two towers, tried on one black picture and one word: both must answer with as many dimensions."""
    black_BHWC = np.zeros((1, pixels.height, pixels.width, 3), np.uint8)
    with torch.inference_mode():
        image_BD = image_tower(scale(black_BHWC, pixels, place))
        text_BD = text_tower(["a"])
    if image_BD.ndim != 2 or image_BD.shape != text_BD.shape:
        shapes = f"images {list(image_BD.shape)} and texts {list(text_BD.shape)}"
        raise RequestError(f"the towers give {shapes}, which cannot be compared; choose a model with one shared space")
    dim = int(image_BD.shape[1])
    facts = {**facts, **place.facts, "context_length": context_length, "dim": dim, "torch": version("torch")}
    return Towers(image_tower, text_tower, pixels, place, context_length, dim, facts)


def scale(pixels_BHWC: npt.NDArray[np.uint8], preprocess: Preprocess, place: Place) -> torch.Tensor:
    """Pixels as the model reads them: [B, C, H, W] on its device, in its precision."""
    # torch.tensor copies: arrays from shared memory are read-only, and from_numpy would warn and alias them.
    bytes_BCHW = torch.tensor(pixels_BHWC).to(place.device).permute(0, 3, 1, 2).contiguous()
    mean_C = torch.tensor(preprocess.mean, dtype=torch.float32, device=place.device).view(-1, 1, 1)
    std_C = torch.tensor(preprocess.std, dtype=torch.float32, device=place.device).view(-1, 1, 1)
    return bytes_BCHW.to(torch.float32).div_(255).sub_(mean_C).div_(std_C).to(place.dtype)


def unit(vectors_BD: torch.Tensor, what: str, place: Place) -> npt.NDArray[np.float32]:
    """Rows scaled to unit length, float32. Raises WorkError, naming the row, for NaN, infinity or all zeros."""
    rows_BD: npt.NDArray[np.float32] = vectors_BD.to(torch.float32).cpu().numpy()
    norms_B: npt.NDArray[np.float64] = np.linalg.norm(rows_BD.astype(np.float64), axis=1)
    bad_B = ~(np.isfinite(norms_B) & (norms_B > 0))
    if bad_B.any():
        row = int(np.argmax(bad_B))
        fault = "is all zeros" if norms_B[row] == 0 else "has NaN or infinite values"
        advice = "check the weights" if place.precision == "fp32" else "check the weights, or use precision='fp32'"
        raise WorkError(f"the vector of {what} {row} of the batch ({int(bad_B.sum())} such rows) {fault}; {advice}")
    units_BD: npt.NDArray[np.float32] = (rows_BD / norms_B[:, None]).astype(np.float32)
    return units_BD


def check_tokens(tokens_BL: torch.Tensor, vocabulary: int | None) -> torch.Tensor:
    """The same tokens. Raises WorkError for ids that the model has no row for: on a GPU they would end the process."""
    if vocabulary is not None and tokens_BL.numel() and int(tokens_BL.max()) >= vocabulary:
        row = int((tokens_BL >= vocabulary).any(dim=1).int().argmax())
        raise WorkError(
            f"text {row} of the batch has token {int(tokens_BL.max())}, but the model knows {vocabulary}; "
            "its tokenizer belongs to another model"
        )
    return tokens_BL


@contextmanager
def load_errors(what: str, advice: str) -> Iterator[None]:
    """Whatever a model's library raises on a broken model becomes one sentence."""
    try:
        yield
    except RaybenchError:
        raise
    except torch.OutOfMemoryError:
        raise WorkError(f"{what} does not fit into the GPU's memory; use precision='bf16' or a larger GPU") from None
    except Exception as error:  # the libraries state no exceptions and raise a dozen kinds on broken files
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise RequestError(f"{what} cannot be loaded: {reason.rstrip('.')}; {advice}") from error


def library_versions(*packages: str) -> dict[str, str]:
    """Versions of the packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _caption(text: str, row: int, context_length: int) -> str:
    if not isinstance(text, str):
        raise DataError(f"text {row} of the batch is {type(text).__name__}, not a string; drop it or fill it in")
    return text[: _LETTERS_PER_TOKEN * context_length]
