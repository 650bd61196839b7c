"""A registry makes recipes from specs, and answers every wrong request with the nearest right one."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybench.errors import SpecError, suggest
from raybench.registry import Registry
from raybench.spec import Spec


@dataclass(frozen=True, slots=True)
class Graph:
    """A recipe with every kind of field."""

    m: int
    ratio: float = 0.5
    name: str = "plain"
    is_flat: bool = False
    sizes: tuple[int, ...] = ()
    box: tuple[int, str] = (1, "a")
    mode: Literal["fast", "exact"] | None = None
    level: Literal[1, 2] = 1
    limit: int | None = None
    old: Optional[int] = None  # noqa: UP045  the older spelling must work too
    family: ClassVar[str] = "graph"


@dataclass(frozen=True, slots=True)
class Plain:
    """A recipe without fields."""


HERE = __name__
GRAPHS: Registry[Graph] = Registry("index", {"graph": f"{HERE}:Graph", "plain": f"{HERE}:Plain"}, takes_at=True)
PLAINS: Registry[Plain] = Registry("transform", {"plain": f"{HERE}:Plain"})


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("graph(32)", Graph(32)),
        ("graph(m=32)@64", Graph(32)),
        ("graph(32, 1)", Graph(32, ratio=1.0)),
        ("graph(32, name='x', is_flat=True)", Graph(32, name="x", is_flat=True)),
        ("graph(1, sizes=[1, 2, 3])", Graph(1, sizes=(1, 2, 3))),
        ("graph(1, sizes=[])", Graph(1, sizes=())),
        ("graph(1, box=[2, 'b'])", Graph(1, box=(2, "b"))),
        ("graph(1, mode='fast')", Graph(1, mode="fast")),
        ("graph(1, mode=None, limit=None)", Graph(1)),
        ("graph(1, limit=5, old=6, level=2)", Graph(1, limit=5, old=6, level=2)),
        ("plain", Plain()),
        ("plain()", Plain()),
    ],
)
def test_a_spec_makes_its_recipe(text: str, made: object) -> None:
    """Positions and names fill the fields; whole numbers pass for floats, and lists become tuples."""
    recipe = GRAPHS.make(text)
    assert recipe == made
    assert GRAPHS.make(Spec.parse(text)) == made
    assert hash(recipe) == hash(made)
    if isinstance(recipe, Graph):
        assert type(recipe.ratio) is float


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("grahp(1)", "no index is called 'grahp'; did you mean 'graph'?"),
        ("zzzzzz", "no index is called 'zzzzzz'; known are: graph, plain"),
        ("graph", "index 'graph' needs m; write it like graph(m=...)"),
        ("graph(1, ration=2)", "index 'graph' has no parameter 'ration'; did you mean 'ratio'?"),
        ("graph(1, family='x')", "index 'graph' has no parameter 'family'; "),
        ("graph(1, m=2)", "index 'graph': parameter 'm' is given twice in graph(1, m=2)"),
        ("graph(m=1, m=2)", "index 'graph': parameter 'm' is given twice in graph(m=1, m=2)"),
        ("plain(1)", "index 'plain' takes at most 0 parameters; plain(1) has 1"),
        ("plain(a=1)", "index 'plain' has no parameter 'a'; it takes none"),
        ("graph('1')", "index 'graph': m='1' does not fit; it must be a whole number"),
        ("graph(1.0)", "index 'graph': m=1.0 does not fit; it must be a whole number"),
        ("graph(True)", "index 'graph': m=True does not fit; it must be a whole number"),
        ("graph(1, True)", "index 'graph': ratio=True does not fit; it must be a number"),
        ("graph(1, name=1)", "index 'graph': name=1 does not fit; it must be a string"),
        ("graph(1, is_flat=1)", "index 'graph': is_flat=1 does not fit; it must be True or False"),
        ("graph(1, sizes=3)", "index 'graph': sizes=3 does not fit; it must be tuple[int, ...]"),
        ("graph(1, sizes=['a'])", "index 'graph': sizes='a' does not fit; it must be a whole number"),
        ("graph(1, box=[1])", "index 'graph': box=[1] does not fit; it must be tuple[int, str]"),
        ("graph(1, box=['b', 2])", "index 'graph': box='b' does not fit; it must be a whole number"),
        ("graph(1, mode='slow')", "index 'graph': mode='slow' does not fit; it must be 'fast' or 'exact' or None"),
        ("graph(1, level=True)", "index 'graph': level=True does not fit; it must be 1 or 2"),
        ("graph(1, level=1.0)", "index 'graph': level=1.0 does not fit; it must be 1 or 2"),
        ("graph(1, level=[])", "index 'graph': level=[] does not fit; it must be 1 or 2"),
        ("graph(1, limit='x')", "index 'graph': limit='x' does not fit; it must be a whole number or None"),
        ("graph(1, old='x')", "index 'graph': old='x' does not fit; it must be a whole number or None"),
    ],
)
def test_a_wrong_request_is_answered_with_the_next_step(text: str, sentence: str) -> None:
    """The thing, the value and what to write instead, in one sentence."""
    with pytest.raises(SpecError) as refusal:
        GRAPHS.make(text)
    assert str(refusal.value).startswith(sentence)


def test_an_effort_is_refused_where_it_would_be_ignored() -> None:
    """A family without a search effort says so; nothing that was asked for is dropped silently."""
    with pytest.raises(SpecError, match=r"transform 'plain' takes no @64; write plain\(\)$"):
        PLAINS.make("plain()@64")
    assert GRAPHS.make("plain()@64") == Plain()


def test_a_member_is_imported_when_it_is_asked_for() -> None:
    """The table can name modules that are not installed; only asking for them fails, and names come in its order."""
    table: Registry[object] = Registry("encoder", {"gone": "no.such.module:Thing", "plain": f"{HERE}:Plain"})
    assert table.names == ["gone", "plain"]
    assert table.load("plain") is Plain
    with pytest.raises(ImportError):
        table.load("gone")


@given(st.text(max_size=30))
def test_any_unknown_name_gets_an_answer(name: str) -> None:
    """Whatever is asked for, the answer is a SpecError that quotes it safely."""
    if name in GRAPHS.names:
        return
    with pytest.raises(SpecError) as refusal:
        GRAPHS.load(name)
    assert repr(name) in str(refusal.value)


def test_suggestions() -> None:
    """The nearest name, or all names, or that there are none."""
    assert suggest("recal", ["recall", "precision"]) == "did you mean 'recall'?"
    assert suggest("xyz", ["recall", "precision"]) == "known are: precision, recall"
    assert suggest("xyz", []) == "there are none"
