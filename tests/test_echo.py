"""The generator without weights tells exactly what it was shown."""

import hashlib
import time

import pytest
from PIL import Image

from raybench.errors import RequestError
from raybench.generation.base import Ask, Decoding, Shot
from raybench.generation.echo import Echo

RED, BLUE = Image.new("RGB", (4, 3), "red"), Image.new("RGB", (5, 2), "blue")
RED_WORD = "4x3:" + hashlib.sha256(b"\xff\x00\x00" * 12).hexdigest()[:8]
BLUE_WORD = "5x2:" + hashlib.sha256(b"\x00\x00\xff" * 10).hexdigest()[:8]


def answer(ask, decoding=None, seed=0, place=0):
    asks = [Ask((), "before")] * place + [ask]
    return Echo().load("cpu", 1).answer(asks, decoding or Decoding(), seed)[place]


def test_it_tells_pictures_in_order_and_words():
    found = answer(Ask((RED, BLUE), "which is  red"))
    assert found.text == f"2 pictures {RED_WORD} {BLUE_WORD} which is red"
    assert (found.prompt_tokens, found.image_tokens, found.answer_tokens, found.ended) == (32 + 3, 32, 7, "end")
    assert answer(Ask((BLUE, RED), "which is red")).text != found.text


def test_one_pixel_changes_the_text():
    other = RED.copy()
    other.putpixel((3, 2), (255, 0, 1))
    assert answer(Ask((other,), "x")).text != answer(Ask((RED,), "x")).text


def test_shots_go_before_and_count():
    found = answer(Ask((RED,), "and this", (Shot((BLUE,), "what is it", "a sea"),)))
    assert found.text == f"shot {BLUE_WORD} what is it a sea 1 pictures {RED_WORD} and this"
    assert (found.prompt_tokens, found.image_tokens) == (2 * 16 + 5 + 2, 32)


def test_max_tokens_cuts_words():
    found = answer(Ask((), "a b c"), Decoding(max_tokens=3))
    assert (found.text, found.ended, found.answer_tokens) == ("0 pictures a", "length", 3)
    assert answer(Ask((), "a b c"), Decoding(max_tokens=5)).ended == "end"


def test_a_sampled_answer_depends_on_seed_and_place_and_a_greedy_one_on_neither():
    sampled = Decoding(temperature=0.5)
    texts = {answer(Ask((), "x"), sampled, seed, place).text for seed in (1, 2) for place in (0, 1)}
    assert len(texts) == 4
    assert answer(Ask((), "x"), sampled, 1).text == answer(Ask((), "x"), sampled, 1).text
    assert {answer(Ask((), "x"), None, seed, place).text for seed in (1, 2) for place in (0, 1)} == {"0 pictures x"}


def test_the_delay_is_slept_once_a_call():
    generator = Echo(delay_s=0.1).load("cpu", 1)
    began = time.monotonic()
    generator.answer([Ask((), "x")] * 5, Decoding(), 0)
    assert time.monotonic() - began >= 0.1


@pytest.mark.parametrize("recipe", [Echo(batch=0), Echo(delay_s=-1), Echo(delay_s=float("nan")), Echo(delay_s=1e9)])
def test_numbers_out_of_range_are_refused(recipe):
    with pytest.raises(RequestError, match="echo"):
        recipe.check()
