"""A filter on columns of metadata, written like `width >= 512 and (lang == "en" or lang is None) and "cat" in caption`.

The text is read with Python's own expression grammar, and only these parts of it are known; nothing is ever run:

    == != < <= > >=           a column against a number, a string, True or False, or another column; chains too
    in [..]  not in [..]      a column against a list
    "text" in name            text within a column of text
    is None  is not None      whether there is a value
    and  or  not              of conditions; a column of booleans is one by itself
    column("odd name")        a column whose name is no identifier

A comparison with a missing value is neither true nor false, as in SQL; a row stays where the whole is true.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raybench.errors import RequestError, suggest

_LONGEST = 4_096  # characters; Python's parser recurses
_COMPARED: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Eq: pc.equal, ast.NotEq: pc.not_equal, ast.Lt: pc.less, ast.LtE: pc.less_equal, ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}  # fmt: skip
_EXAMPLE = """write it like 'width >= 512 and "cat" in caption'"""


@dataclass(frozen=True, slots=True)
class Where:
    """A filter that was read; made by `parse`."""

    text: str
    columns: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Where":
        """RequestError, quoting what is not known."""
        named: dict[str, None] = {}
        _walk(_tree(text), text, named)
        if not named:
            raise RequestError(f"--where {text!r} names no column; {_EXAMPLE}")
        return cls(text, tuple(named))

    def check(self, schema: pa.Schema) -> None:
        """RequestError for columns that are not there, or of a type that cannot be compared so."""
        for name in self.columns:
            if name not in schema.names:
                raise RequestError(
                    f"--where {self.text!r}: the metadata has no column {name!r}; {suggest(name, schema.names)}"
                )
        self.mask(schema.empty_table().select(self.columns))

    def mask(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Which rows stay."""
        try:
            truth = _truth(_tree(self.text), table)
        except (pa.ArrowException, TypeError, OverflowError) as error:
            reason = str(error).splitlines()[0]
            raise RequestError(f"--where {self.text!r} does not fit the columns: {reason}") from None
        return np.asarray(pc.fill_null(truth, fill_value=False).to_numpy(), np.bool_)


def _tree(text: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise RequestError(f"--where of {len(text)} characters is too long; the limit is {_LONGEST}")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise RequestError(f"--where {text!r} does not parse; {_EXAMPLE}") from None


def _walk(node: ast.expr, text: str, named: dict[str, None], *, is_condition: bool = True) -> None:
    """Note the columns; RequestError for whatever is not one of the known parts."""
    if isinstance(node, ast.BoolOp) and is_condition:
        for part in node.values:
            _walk(part, text, named)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not) and is_condition:
        _walk(node.operand, text, named)
    elif isinstance(node, ast.Compare) and is_condition:
        for part in (node.left, *node.comparators):
            _walk(part, text, named, is_condition=False)
        for op, (left, right) in zip(node.ops, pairwise((node.left, *node.comparators)), strict=True):
            _check_pair(op, left, right, text)
    elif (name := _column(node)) is not None:
        named[name] = None
    elif is_condition or not (_is_constant(node) or _is_list(node)):
        raise RequestError(f"--where {text!r}: {ast.unparse(node)!r} is no part of a filter; {_EXAMPLE}")


def _check_pair(op: ast.cmpop, left: ast.expr, right: ast.expr, text: str) -> None:
    is_none = [isinstance(one, ast.Constant) and one.value is None for one in (left, right)]
    if isinstance(op, (ast.Is, ast.IsNot)):
        is_good = is_none[1] and _column(left) is not None
    elif isinstance(op, (ast.In, ast.NotIn)):
        is_text = isinstance(left, ast.Constant) and isinstance(left.value, str) and _column(right) is not None
        is_good = is_text or (_column(left) is not None and _is_list(right))
    else:
        is_good = not any(is_none) and not _is_list(left) and not _is_list(right)
        is_good = is_good and (_column(left) is not None or _column(right) is not None)
    if not is_good:
        shown = ast.unparse(ast.Compare(left, [op], [right]))
        raise RequestError(
            f"--where {text!r}: {shown!r} compares nothing; use a column and a value, a list, or is None"
        )


def _column(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "column":
        match node.args:
            case [ast.Constant(value=str(name))] if not node.keywords:
                return name
    return None


def _is_constant(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
        return isinstance(node, ast.Constant) and type(node.value) in (int, float)
    return isinstance(node, ast.Constant) and (node.value is None or type(node.value) in (int, float, str, bool))


def _is_list(node: ast.expr) -> bool:
    if not isinstance(node, (ast.List, ast.Tuple, ast.Set)) or not node.elts:
        return False
    return all(_is_constant(one) and not (isinstance(one, ast.Constant) and one.value is None) for one in node.elts)


def _truth(node: ast.expr, table: pa.Table) -> Any:
    if isinstance(node, ast.BoolOp):
        join = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
        return reduce(join, (_truth(part, table) for part in node.values))
    if isinstance(node, ast.UnaryOp):
        return pc.invert(_truth(node.operand, table))
    if isinstance(node, ast.Compare):
        pairs = pairwise((node.left, *node.comparators))
        return reduce(pc.and_kleene, (_compared(op, *pair, table) for op, pair in zip(node.ops, pairs, strict=True)))
    truth = _value(node, table)
    if not pa.types.is_boolean(truth.type):
        raise TypeError(f"{_column(node)} holds {truth.type}, which is no condition")
    return truth


def _compared(op: ast.cmpop, left: ast.expr, right: ast.expr, table: pa.Table) -> Any:
    if isinstance(op, (ast.Is, ast.IsNot)):
        value = _value(left, table)
        return pc.is_null(value) if isinstance(op, ast.Is) else pc.is_valid(value)
    if isinstance(op, (ast.In, ast.NotIn)):
        if _column(left) is None:
            found = pc.match_substring(_value(right, table), ast.literal_eval(left))
        else:
            value = _value(left, table)
            listed = pa.array(list(ast.literal_eval(right))).cast(value.type)
            found = pc.if_else(pc.is_valid(value), pc.is_in(value, value_set=listed), pa.scalar(None, pa.bool_()))
        return found if isinstance(op, ast.In) else pc.invert(found)
    return _COMPARED[type(op)](_value(left, table), _value(right, table))


def _value(node: ast.expr, table: pa.Table) -> Any:
    name = _column(node)
    if name is None:
        return pa.scalar(ast.literal_eval(node))
    column = table[name]
    if pa.types.is_floating(column.type):  # what is not a number is no value
        return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
