"""Pictures that a classifier takes for one of some classes stay: the summed probability of the classes is over a threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raybench.arrays import Rows
from raybench.curation.base import Draft, Models, Verdict, Work
from raybench.curation.classifiers import Classes, HuggingFaceClassifier, TimmClassifier, check_classes
from raybench.encoders.base import EncoderRecipe, Precision

_BLOCK = 65_536


@dataclass(frozen=True, slots=True)
class HuggingFaceClasses:
    """By any image classifier of the Hugging Face hub, or a folder: `huggingface_classes("google/vit-base-patch16-224", ...)`."""

    model: str
    classes: str | tuple[str | int, ...]
    threshold: float = 0.5
    precision: Precision = "fp32"
    revision: str | None = None

    def check(self, encoders: Sequence[str]) -> None:  # noqa: ARG002 - it uses none
        """Names and numbers, and a local folder's files."""
        check_classes(self.classes, self.threshold, "huggingface_classes")
        self._recipe().check()

    def models(self, encoders: Sequence[str]) -> Models:  # noqa: ARG002 - it has its own
        """The classifier."""
        return ((f"huggingface:{self.model}", self._recipe()),)

    def judge(self, draft: Draft, rows: Rows, work: Work) -> Verdict:  # noqa: ARG002 - pictures are enough
        """Pictures at or under the threshold go."""
        return judge(self._recipe(), f"huggingface:{self.model}", self.classes, self.threshold, rows, work)

    def _recipe(self) -> HuggingFaceClassifier:
        return HuggingFaceClassifier(self.model, self.precision, self.revision, classes=self.classes)


@dataclass(frozen=True, slots=True)
class TimmClasses:
    """By any image classifier of timm: `timm_classes("vit_base_patch16_224.augreg2_in21k_ft_in1k", classes="vehicles")`."""

    model: str
    classes: str | tuple[str | int, ...]
    threshold: float = 0.5
    precision: Precision = "fp32"

    def check(self, encoders: Sequence[str]) -> None:  # noqa: ARG002 - it uses none
        """Names and numbers, and a local folder's files."""
        check_classes(self.classes, self.threshold, "timm_classes")
        self._recipe().check()

    def models(self, encoders: Sequence[str]) -> Models:  # noqa: ARG002 - it has its own
        """The classifier."""
        return ((f"timm:{self.model}", self._recipe()),)

    def judge(self, draft: Draft, rows: Rows, work: Work) -> Verdict:  # noqa: ARG002 - pictures are enough
        """Pictures at or under the threshold go."""
        return judge(self._recipe(), f"timm:{self.model}", self.classes, self.threshold, rows, work)

    def _recipe(self) -> TimmClassifier:
        return TimmClassifier(self.model, self.classes, self.precision)


def judge(recipe: EncoderRecipe, spec: str, classes: Classes, threshold: float, rows: Rows, work: Work) -> Verdict:
    """The verdict of a classifier whose first number is a probability."""
    stored = work.judged(spec, recipe, rows)
    blocks = [stored.block(start, start + _BLOCK)[:, 0] for start in range(0, len(stored), _BLOCK)]
    probability_M = np.concatenate([np.zeros(0, np.float32), *blocks])
    is_gone_M = ~(probability_M > threshold)
    details = [f"probability {one:.4f}" for one in probability_M[is_gone_M]]
    near = int((np.abs(probability_M - threshold) < 0.01).sum())
    shown = list(classes) if isinstance(classes, tuple) else classes
    return Verdict.of(
        stored.rows[is_gone_M], "not_of_the_classes", details, classes=shown, threshold=threshold,
        within_a_hundredth_of_the_threshold=near,
    )  # fmt: skip
