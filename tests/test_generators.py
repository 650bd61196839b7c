"""The contract of every generator: an answer to each ask, in order, decided by pictures, words, decoding and seed."""

import json
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_vlm
from openai_server import openai_server
from PIL import Image

from raybench.errors import RequestError
from raybench.generation import GENERATORS
from raybench.generation.base import Ask, Decoding, Shot


@contextmanager
def endpoint_example(**fields: Any) -> Iterator[str]:
    """A server, and the spec that asks it."""
    with openai_server() as server:
        more = "".join(f", {name}={value!r}" for name, value in fields.items())
        yield f'endpoint("{server.url}"{more})'


@contextmanager
def folder_example(name: str, build: Callable[[Path], Path]) -> Iterator[str]:
    """A folder with a small model, and the spec that loads it."""
    with tempfile.TemporaryDirectory() as folder:
        yield f'{name}("{build(Path(folder))}", precision="fp32")'


EXAMPLES: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "echo": lambda: nullcontext("echo()"),
    "endpoint": endpoint_example,
    "endpoint whole": lambda: endpoint_example(stream=False, batch=2),
    "qwen_vl": lambda: folder_example("qwen_vl", tiny_vlm.qwen_folder),
    "image_text llava": lambda: folder_example("image_text", tiny_vlm.llava_folder),
    "image_text idefics": lambda: folder_example("image_text", tiny_vlm.idefics_folder),
}
"""For each generator: what holds as long as it is asked, and gives its spec."""


@pytest.fixture(scope="module", params=EXAMPLES)
def made(request):
    with EXAMPLES[request.param]() as spec:
        recipe = GENERATORS.make(spec)
        yield recipe, recipe.load("cpu", 1)


def picture(seed, width=64, height=56):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def asks():
    """None, one and two pictures, an example before the question, empty words, words that no table is made for."""
    shot = Shot((picture(9),), "what is it", "noise")
    return [
        Ask((picture(1),), "what is this"),
        Ask((), "guess"),
        Ask((picture(2), picture(3, 90, 60)), "compare these two pictures"),
        Ask((picture(1),), "what is this", (shot,)),
        Ask((picture(4),), ""),
        Ask((picture(5),), 'quotes " \\ { } \n <image> <|im_end|> \U0001f600 e\u0301 \u202e \x00 ' + "word " * 50),
    ]


def told(answers):
    """What is not a time."""
    return [
        (one.text, one.ended, one.prompt_tokens, one.image_tokens, one.answer_tokens, one.problem) for one in answers
    ]


def test_every_generator_has_an_example():
    """A generator that joins the table joins the contract."""
    assert {name.split()[0] for name in EXAMPLES} == set(GENERATORS.names)


def test_there_is_an_answer_to_each_ask_in_order(made):
    """One by one gives the texts of all together; answers are whole, or a problem with no text."""
    _, generator = made
    together = generator.answer(asks(), Decoding(), 3)
    alone = [generator.answer([ask], Decoding(), 3)[0] for ask in asks()]
    assert told(together) == told(alone)
    for one in together:
        assert one.problem is None
        assert one.ended in ("end", "length")
        assert one.answer_tokens is None or 0 <= one.answer_tokens <= Decoding().max_tokens
        assert one.tries >= 1
        assert 1 <= one.together <= len(together)
        times = [one.preprocess_s, one.first_token_s or 0.0, one.decode_s, one.waited_s]
        assert all(0 <= time_s < 300 for time_s in times)
        assert one.image_tokens is None or one.image_tokens <= one.prompt_tokens


def test_a_call_repeats_after_the_recipe_has_travelled(made):
    recipe, generator = made
    travelled = pickle.loads(pickle.dumps(recipe))  # noqa: S301  # it was made a line ago
    again = travelled.load("cpu", 1)
    sampled = Decoding(temperature=1.0, top_p=0.9)
    assert travelled == recipe
    assert travelled.fingerprint() == recipe.fingerprint()
    for decoding in (Decoding(), sampled):
        assert told(again.answer(asks(), decoding, 7)) == told(generator.answer(asks(), decoding, 7))


def test_greedy_answers_do_not_depend_on_the_seed(made):
    _, generator = made
    assert told(generator.answer(asks(), Decoding(), 1)) == told(generator.answer(asks(), Decoding(), 2))


def test_an_answer_ends_at_max_tokens(made):
    """One token, and says that it was cut off."""
    _, generator = made
    (one,) = generator.answer(asks()[:1], Decoding(max_tokens=1), 0)
    assert (one.ended, one.answer_tokens) == ("length", 1)
    assert one.text.strip()


def test_pictures_and_shots_count_among_the_tokens_that_go_in(made):
    _, generator = made
    without, with_one, with_shot = (
        generator.answer([ask], Decoding(), 0)[0] for ask in (Ask((), "what is this"), asks()[0], asks()[3])
    )
    if with_one.image_tokens is not None:
        assert without.image_tokens == 0 < with_one.image_tokens < with_shot.image_tokens
        assert without.prompt_tokens < with_one.prompt_tokens < with_shot.prompt_tokens


def test_no_asks_have_no_answers(made):
    assert made[1].answer([], Decoding(), 0) == []


def test_facts_can_be_stored_and_name_the_model(made):
    recipe, generator = made
    facts = json.loads(json.dumps(dict(generator.facts), allow_nan=False))
    assert facts["model"]
    assert recipe.batch >= 1
    assert recipe.gpus >= 0


def test_an_unknown_generator_is_refused_with_the_nearest():
    with pytest.raises(RequestError, match="did you mean 'endpoint'"):
        GENERATORS.make('endpiont("http://host/v1")')
