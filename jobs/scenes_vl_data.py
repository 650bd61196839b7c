"""What scenes-vl is trained on: pictures in families that differ in little, and what is asked about one of several."""

import io
import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from raybench.generation.prompts import PROMPTS
from raybench.sources.scenes.captions import describe
from raybench.sources.scenes.draw import draw
from raybench.sources.scenes.files import jpeg
from raybench.sources.scenes.questions import questions
from raybench.sources.scenes.scene import Purpose, Scene, generator, sample, vary
from raybench.sources.scenes.sentence import sentence

IMAGE_PX = 84
FAMILY = 4  # pictures that differ in little: a scene, two that differ from it in one attribute, one that differs in two
CHUNK = 500  # families drawn at a time
DRAWING = 2  # the third word of a training seed; 0 and 1 are those of the CLIP models, 3 orders the examples


def family(seed: int, index: int) -> tuple[list[Scene], np.random.Generator]:
    """Scenes that differ in little, and the stream that goes on to their words."""
    rng = generator(Purpose.TRAINING, seed, DRAWING, index)
    scene = sample(rng)
    near = [vary(scene, rng)[0] for _ in range(2)]
    return [scene, *near, vary(near[0], rng)[0]], rng


def _draw_chunk(seed_and_chunk: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Pictures [CHUNK * FAMILY, H, W, C] as a reader of the stored files would see them."""
    seed, chunk = seed_and_chunk
    pictures: list[npt.NDArray[np.uint8]] = []
    for index in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        for scene in family(seed, index)[0]:
            stored = jpeg(draw(scene, generator(Purpose.TRAINING, seed, DRAWING, index, 1)))
            picture = Image.open(io.BytesIO(stored)).resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC)
            pictures.append(np.asarray(picture))
    return np.stack(pictures)


def training_pictures(work: Path, seed: int, families: int) -> npt.NDArray[np.uint8]:
    """All pictures, drawn once and kept in `work`."""
    kept = work / f"vl-{seed}-{families}.npy"
    if not kept.exists():
        jobs = [(seed, chunk) for chunk in range(families // CHUNK)]
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            chunks = pool.map(_draw_chunk, jobs, chunksize=1)
        partial = kept.with_suffix(".partial.npy")
        np.save(partial, np.concatenate(chunks))
        partial.rename(kept)  # a kill while writing leaves no half file under the final name
    pictures: npt.NDArray[np.uint8] = np.load(kept)
    return pictures


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation: the pictures by number, what is asked and what is to be said."""

    pictures: tuple[int, ...]
    words: str
    answer: str


def example(seed: int, index: int, pictures: int, families: int, rng: np.random.Generator) -> Example:
    """An example about a scene of family `index`, among `pictures` pictures as a search would find them."""
    scenes, _ = family(seed, index)
    chosen = int(rng.integers(FAMILY))
    scene = scenes[chosen]
    others = [number for number in range(FAMILY) if scenes[number] != scene]
    shown = [index * FAMILY + number for number in rng.permutation(others)[: max(0, pictures - 1)].tolist()]
    while len(shown) < pictures - 1:
        shown.append(int(rng.integers(families * FAMILY)))
    # What is looked for stands first more often than not, as it does after a search.
    place = 0 if rng.random() < 0.5 else int(rng.integers(max(1, pictures)))
    if pictures:
        shown.insert(place, index * FAMILY + chosen)
    told = describe(scene, rng)
    query = told[int(rng.choice(5, p=(0.25, 0.25, 0.2, 0.1, 0.2)))]
    kind = rng.random()
    if kind < 0.15 and pictures:
        first = (
            scenes[shown[0] % FAMILY]
            if shown[0] // FAMILY == index
            else family(seed, shown[0] // FAMILY)[0][shown[0] % FAMILY]
        )
        return Example(tuple(shown), PROMPTS["caption"].words(query, None, pictures=pictures), sentence(first))
    if kind < 0.65:
        return Example(tuple(shown), PROMPTS["describe"].words(query, None, pictures=pictures), sentence(scene))
    every = questions(scene)
    asked = every[int(rng.integers(len(every)))]
    return Example(tuple(shown), PROMPTS["answer"].words(query, asked.text, pictures=pictures), asked.answer)
