"""A name is a value: the text of a spec parses to it, and it prints back to the same text.

`hnsw(m=32)@128`, `openclip("ViT-B-32", pretrained="laion2b_s34b_b79k")`, `int8()` and `ndcg@10` are read with
Python's own expression grammar. Only literals are arguments: no calls, attributes, operators or unpacking, so
reading a spec never runs anything. Two specs are equal if they ask for the same thing, however it was spelt: the order
of named parameters, spaces, quotes and empty parentheses do not matter, but 1, 1.0 and True are three things.
"""

import ast
import hashlib
import json
import math
from dataclasses import dataclass
from typing import TypeAlias

from raybench.errors import SpecError

Literal: TypeAlias = "str | int | float | bool | list[Literal] | dict[str, Literal] | None"

_WHOLE = range(-(2**63), 2**63)  # what numpy and Parquet hold; Python cannot even print much longer numbers
_LONGEST = 4096  # characters; the parser of Python recurses, and a spec is a line


@dataclass(frozen=True, slots=True, eq=False)
class Spec:
    """A name with literal arguments and, after `@`, one integer: a cut-off or a search effort."""

    name: str
    args: tuple[Literal, ...] = ()
    params: tuple[tuple[str, Literal], ...] = ()
    at: int | None = None
    parenthesised: bool = False  # how it was written, which printing keeps

    @classmethod
    def parse(cls, text: str) -> "Spec":
        """Read a spec. Raises SpecError, quoting the text, where it is anything else."""
        if not isinstance(text, str):
            raise SpecError(f"{text!r} is not a name; write it like truncate(dim=256) or ndcg@10")
        if len(text) > _LONGEST:
            raise SpecError(f"a spec of {len(text)} characters is too long; the limit is {_LONGEST}")
        spec = cls._read(text)
        if (printed := len(str(spec))) > _LONGEST:  # escapes take more room, and what is printed must be read again
            raise SpecError(f"a spec that prints as {printed} characters is too long; the limit is {_LONGEST}")
        return spec

    @classmethod
    def _read(cls, text: str) -> "Spec":
        try:
            node = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            # YAML cuts a flow list at every comma, also at those inside a spec.
            cut = "; inside a YAML list [...] put each spec in quotes" if text.count("(") != text.count(")") else ""
            raise SpecError(f"{text!r} does not parse; write it like truncate(dim=256) or ndcg@10{cut}") from None
        at: int | None = None
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            at = _cutoff(node.right, text)
            node = node.left
        if isinstance(node, ast.Name):
            return cls(node.id, at=at)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            args = tuple(_literal(arg, text) for arg in node.args)
            params = tuple(_param(keyword, text) for keyword in node.keywords)
            return cls(node.func.id, args, params, at, parenthesised=True)
        raise SpecError(f"{text!r} is not a name with parameters; write it like truncate(dim=256) or ndcg@10")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> str:
        named = sorted(self.params, key=lambda param: param[0])
        return json.dumps([self.name, self.args, named, self.at], sort_keys=True)

    def __str__(self) -> str:
        inside = [_print(value) for value in self.args] + [f"{name}={_print(value)}" for name, value in self.params]
        call = f"({', '.join(inside)})" if inside or self.parenthesised else ""
        return f"{self.name}{call}" + ("" if self.at is None else f"@{self.at}")


def content_key(*parts: object, length: int = 16) -> str:
    """A hexadecimal content hash of values that JSON can hold; the order of dictionary keys does not matter."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _cutoff(node: ast.expr, text: str) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int and node.value > 0 and node.value in _WHOLE:
        return node.value
    raise SpecError(f"{text!r}: what follows @ must be a positive whole number, as in ndcg@10")


def _param(keyword: ast.keyword, text: str) -> tuple[str, Literal]:
    if keyword.arg is None:
        raise SpecError(f"{text!r}: unpacking with ** is not allowed; name each parameter")
    return keyword.arg, _literal(keyword.value, text)


def _literal(node: ast.expr, text: str) -> Literal:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise SpecError(f"{text!r}: parameters must be plain numbers, strings, lists or True/False") from None
    return _checked(value, text)


def _checked(value: object, text: str) -> Literal:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value not in _WHOLE:
            raise SpecError(
                f"{text!r}: a whole number of {value.bit_length()} bits cannot be a parameter; 64 are allowed"
            )
        return value
    if isinstance(value, str):
        return _checked_string(value, text)
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, (list, tuple)):
        return [_checked(item, text) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {_checked_string(key, text): _checked(item, text) for key, item in value.items()}
    raise SpecError(
        f"{text!r}: a {type(value).__name__} cannot be a parameter; use numbers, strings, lists, True/False"
    )


def _checked_string(value: str, text: str) -> str:
    """Refuse halves of surrogate pairs, which no file can hold and no parser takes back."""
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise SpecError(f"{text!r}: {value!r} has half of a surrogate pair; write the whole character")
    return value


def _print(value: Literal) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(_print(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_print(key)}: {_print(item)}" for key, item in value.items()) + "}"
    return repr(value)
