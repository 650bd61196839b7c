"""Classification without a classifier: an encoder compares pictures with sentences about each class.

The probability of a class is the softmax over all classes, wanted and other, of the encoder's scale times the cosine with the
mean of the class's sentences, as in Radford et al. 2021 (CLIP), section 3.1.

Axes: M pictures, L classes, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raybench.arrays import Rows
from raybench.curation.base import Draft, Models, Verdict, Work, encoders_of, one_encoder
from raybench.curation.classifiers import check_classes
from raybench.errors import SpecError

_BLOCK = 65_536


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """Pictures whose probability of `classes`, against `others`, is over the threshold stay."""

    classes: tuple[str, ...]
    others: tuple[str, ...]
    threshold: float = 0.5
    prompts: tuple[str, ...] = ("a photo of a {}",)
    scale: float = 100.0  # the logit scale that CLIP models were trained to
    encoder: str = ""  # none: the first of the recipe

    def check(self, encoders: Sequence[str]) -> None:
        """Classes on both sides, and a place for them in every prompt."""
        check_classes(self.classes, self.threshold, "zero_shot")
        one_encoder(self.encoder, encoders, "zero_shot")
        both = set(self.classes) & set(self.others)
        if not self.others or both:
            what = f"{min(both)!r} is on both sides" if both else "there are no others"
            raise SpecError(f"zero_shot: {what}; others=[...] are what a picture may show instead")
        wrong = next((prompt for prompt in self.prompts if prompt.count("{}") != 1), None)
        if wrong is not None or not self.prompts or not self.scale > 0:
            raise SpecError(
                f"zero_shot(prompts={list(self.prompts)}, scale={self.scale:g}): each prompt needs one {{}} for the class, and the "
                "scale must be over 0"
            )

    def models(self, encoders: Sequence[str]) -> Models:
        """One encoder."""
        return encoders_of([one_encoder(self.encoder, encoders, "zero_shot")])

    def judge(self, draft: Draft, rows: Rows, work: Work) -> Verdict:  # noqa: ARG002 - pictures are enough
        """Pictures at or under the threshold go."""
        encoder = one_encoder(self.encoder, work.encoders, "zero_shot")
        names = (*self.classes, *self.others)
        sentences = [prompt.replace("{}", name) for name in names for prompt in self.prompts]
        stored, asked = work.embedded(encoder, rows, sentences)
        class_LD = asked.astype(np.float64).reshape(len(names), len(self.prompts), -1).mean(axis=1)
        class_LD /= np.linalg.norm(class_LD, axis=1, keepdims=True)
        blocks = [
            probabilities(stored.block(start, start + _BLOCK), class_LD, self.scale)
            for start in range(0, len(stored), _BLOCK)
        ]
        probability_ML = np.concatenate([np.zeros((0, len(names))), *blocks])
        wanted_M = probability_ML[:, : len(self.classes)].sum(axis=1)
        is_gone_M = ~(wanted_M > self.threshold)
        likeliest_M = probability_ML[is_gone_M].argmax(axis=1)
        details = [
            f"probability {one:.4f}, most likely {names[label]!r}"
            for one, label in zip(wanted_M[is_gone_M], likeliest_M, strict=True)
        ]
        return Verdict.of(
            stored.rows[is_gone_M], "not_of_the_classes", details, classes=list(self.classes), threshold=self.threshold
        )


def probabilities(
    images_MD: npt.NDArray[np.floating], class_LD: npt.NDArray[np.float64], scale: float
) -> npt.NDArray[np.float64]:
    """Softmax of scaled cosines over the classes [M, L]."""
    unit_MD = images_MD.astype(np.float64)
    unit_MD /= np.linalg.norm(unit_MD, axis=1, keepdims=True)
    logits_ML = scale * unit_MD @ class_LD.T
    grown_ML = np.exp(logits_ML - logits_ML.max(axis=1, keepdims=True))
    share_ML: npt.NDArray[np.float64] = grown_ML / grown_ML.sum(axis=1, keepdims=True)
    return share_ML
