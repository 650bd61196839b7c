"""A spec prints what it was read from, and anything else is refused with a sentence."""

import ast
import hashlib
import keyword
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybench.errors import SpecError
from raybench.spec import Spec, content_key

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))
STRINGS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | STRINGS
)
LITERALS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3), max_leaves=6
)
SPECS = st.builds(
    lambda name, args, params, at, bare: Spec(
        name, tuple(args), tuple(params.items()), at, parenthesised=bool(args or params) or not bare
    ),
    NAMES,
    st.lists(LITERALS, max_size=3),
    st.dictionaries(NAMES, LITERALS, max_size=3),
    st.none() | st.integers(1, 2**63 - 1),
    st.booleans(),
)


@given(SPECS)
def test_a_spec_prints_and_parses_to_itself(spec: Spec) -> None:
    """Whatever literals it holds, the printed text reads back as the same spec and prints the same again."""
    again = Spec.parse(str(spec))
    assert again == spec
    assert hash(again) == hash(spec)
    assert str(again) == str(spec)
    assert repr(again) == repr(spec)


TRICKY = st.sampled_from([1, True, 1.0, 0, False, -0.0, "1", None, [1], [True], {"a": 1, "b": 2}, {"b": 2, "a": 1}])
ALIKE = st.builds(
    lambda name, args, params, at: Spec(name, tuple(args), tuple(params), at),
    st.sampled_from("ab"),
    st.lists(TRICKY, max_size=1),
    st.lists(st.tuples(st.sampled_from("mn"), TRICKY), max_size=2, unique_by=lambda param: param[0]),
    st.sampled_from([None, 1]),
)


def meaning(value: object) -> object:
    """What a literal is, its type included, in a form that compares without regard to the order of keys."""
    if isinstance(value, dict):
        return "dict", frozenset((key, meaning(item)) for key, item in value.items())
    if isinstance(value, list):
        return "list", tuple(meaning(item) for item in value)
    return type(value).__name__, repr(value)


@given(ALIKE, ALIKE)
def test_specs_are_equal_only_if_they_hold_the_same(one: Spec, two: Spec) -> None:
    """Equality is that of name, arguments, cut-off and named parameters in any order; equal specs are one key."""
    same = (one.name, meaning(list(one.args)), meaning(dict(one.params)), one.at) == (
        two.name,
        meaning(list(two.args)),
        meaning(dict(two.params)),
        two.at,
    )
    assert (one == two) == same
    assert len({one, two}) == 2 - same


def test_worked_examples() -> None:
    """The forms that users write parse to their parts and print as they were written."""
    assert Spec.parse("hnsw(m=32)@128") == Spec("hnsw", (), (("m", 32),), 128)
    assert Spec.parse("ndcg@10") == Spec("ndcg", at=10)
    text = 'openclip("ViT-B-32", pretrained="laion2b_s34b_b79k")'
    assert Spec.parse(text) == Spec("openclip", ("ViT-B-32",), (("pretrained", "laion2b_s34b_b79k"),))
    for written in ("hnsw(m=32)@128", "ndcg@10", text, "int8()", "int8", 'folder("/a b/é")', 'a(-1, [1, {"b": None}])'):
        assert str(Spec.parse(written)) == written


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a(m=1, n=2)", "a( n = 2,m=1 )"),
        ("int8", "int8()"),
        ("a('x')", 'a("x")'),
        ("a(0x10)@1_0", "a(16)@10"),
        ("a((1, 2))", "a([1, 2])"),
        (" a(1) ", "a(1)"),
        ('a({"b": 1, "c": 2})', 'a({"c": 2, "b": 1})'),
    ],
)
def test_spelling_does_not_matter(one: str, two: str) -> None:
    """Two texts that ask for the same thing are one key of a dictionary."""
    assert {Spec.parse(one): 1} == {Spec.parse(two): 1}


@pytest.mark.parametrize(
    ("one", "two"), [("a(1)", "a(True)"), ("a(1)", "a(1.0)"), ("a(1)", "a"), ("a@1", "a@2"), ("a(m=1)", "a(1)")]
)
def test_what_asks_for_something_else_differs(one: str, two: str) -> None:
    """Numbers of another type, other cut-offs and other places of a value make another spec."""
    assert Spec.parse(one) != Spec.parse(two)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "a b",
        "a.b",
        "a.b(1)",
        "a(1)(2)",
        "a@0",
        "a@-1",
        "a@1.5",
        "a@True",
        "a@b",
        "a@1@2",
        "a@0x" + "f" * 17,
        "a@0x" + "f" * 4000,
        "1@2",
        "None",
        "a(b)",
        "a(1+1)",
        "a(**{'b': 1})",
        "a(*[1])",
        "a(b for b in [1])",
        "a(lambda: 1)",
        "a(f'{1}')",
        "a(__import__('os'))",
        "a(b=().__class__)",
        "a(1j)",
        "a(b'x')",
        "a({1, 2})",
        "a({1: 2})",
        "a({**{}})",
        "a(...)",
        "a(nan)",
        "a(1e400)",
        "a(-1e400)",
        "a([1e999])",
        "a(0x" + "f" * 4000 + ")",
        "a(9223372036854775808)",
        'a("\\ud800")',
        'a({"\\udfff": 1})',
        "a\x00",
        "\ud800",
        "a(" + "-" * 4000 + "1)",
        "(" * 3000,
        "a(" + "[" * 1000 + "]" * 1000 + ")",
        "a" + "()" * 2000,
        "a@" * 2000 + "1",
        "a" * 4097,
        'a("' + "\t" * 4000 + '")',
        "a(); b()",
        "a\n\nb",
        "a = 1",
        "await a",
        "yield",
    ],
)
def test_anything_else_is_refused_with_one_sentence(text: str) -> None:
    """No text runs anything, and each is refused with an error of our own that fits on one line."""
    with pytest.raises(SpecError) as refusal:
        Spec.parse(text)
    assert "\n" not in str(refusal.value)
    str(refusal.value).encode()


@pytest.mark.parametrize("value", [None, 5, b"a", ["a"], {"a": 1}])
def test_what_is_no_text_is_refused(value: object) -> None:
    """A YAML file gives numbers and lists where a spec belongs; they are a SpecError too."""
    with pytest.raises(SpecError, match="is not a name"):
        Spec.parse(value)  # type: ignore[arg-type]


@given(st.text(max_size=60) | st.text(st.sampled_from(string.printable + "@()[]{}=,'\"*."), max_size=40))
def test_hostile_text_never_raises_another_error(text: str) -> None:
    """Reading any text gives a spec that prints and reads back, or a SpecError."""
    try:
        spec = Spec.parse(text)
    except SpecError:
        return
    assert Spec.parse(str(spec)) == spec


def test_every_value_that_is_read_is_a_plain_literal() -> None:
    """What a spec holds can be written as JSON and read back by Python's literals, tuples having become lists."""
    spec = Spec.parse("a((1, 2), b={'c': (True, None)}, d=-0.5)")
    assert spec.args == ([1, 2],)
    assert spec.params == (("b", {"c": [True, None]}), ("d", -0.5))
    call = ast.parse(str(spec), mode="eval").body
    assert isinstance(call, ast.Call)
    assert ast.literal_eval(call.args[0]) == [1, 2]


@given(st.dictionaries(STRINGS, SCALARS, max_size=4))
def test_a_content_key_ignores_the_order_of_keys_only(values: dict[str, object]) -> None:
    """The same values give the same key in any order, and another value gives another key."""
    backwards = dict(reversed(values.items()))
    assert content_key(values) == content_key(backwards)
    assert content_key(values) != content_key({**values, "one more key than there was": 1})
    assert len(content_key(values, length=40)) == 40


def test_a_content_key_stays_what_it_was() -> None:
    """Artifacts are found again by their key, so the key of fixed values may never change."""
    written = b'["a",{"b":[1,2.5,null,true],"\\u00e9":"\\u00fc"}]'
    assert content_key("a", {"é": "ü", "b": [1, 2.5, None, True]}) == hashlib.sha256(written).hexdigest()[:16]
