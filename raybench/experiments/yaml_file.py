"""A YAML file that mirrors a dataclass field for field: unknown keys, wrong types and repeated keys are one sentence each."""

import ast
import dataclasses
import types
import typing
from pathlib import Path
from typing import Any

import yaml

from raybench.errors import RequestError, suggest


class _OnceLoader(yaml.SafeLoader):  # type: ignore[misc]  # yaml ships no types
    """A safe loader that refuses a key given twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """The mapping, or a YAMLError that names the key and its line."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def read_text(path: str, what: str) -> str:
    """The text of a file of one's own. RequestError where there is none; `what` names its kind."""
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RequestError(f"there is no {what} {path}; check the path") from None
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        raise RequestError(f"the {what} {path} cannot be read: {error}") from None


def read_keys(text: str, where: str, settings: tuple[str, ...], needs: str) -> dict[str, Any]:
    """The keys of a file, with `key=value` texts that override them; `needs` says what a file without keys lacks."""
    try:
        content = yaml.load(text, _OnceLoader)  # noqa: S506 (a safe loader, above)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise RequestError(f"{where}{line}: {problem}; mend the YAML") from None
    if not isinstance(content, dict):
        raise RequestError(f"{where} holds no keys; {needs}")
    for setting in settings:
        _override(content, setting)
    return content


def write_text(value: Any) -> str:
    """A dataclass as YAML, defaults included; it parses back to the same value."""
    return str(yaml.safe_dump(_plain(dataclasses.asdict(value)), sort_keys=False, allow_unicode=True, width=120))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _override(content: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise RequestError(f"--set {setting!r} is not key=value; write it like --set shards=4")
    *parents, last = key.strip().split(".")
    place = content
    for parent in parents:
        below = place.setdefault(parent, {})
        if not isinstance(below, dict):
            raise RequestError(f"--set {setting!r}: {parent} holds no keys of its own")
        place = below
    place[last] = _setting(text)


def _setting(text: str) -> Any:
    """The value of a setting: specs and lists of specs as they are written, anything else as YAML.

    YAML would cut `[openclip("x", pretrained="y")]` at its comma.
    """
    try:
        node: Any = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        node = None
    if isinstance(node, (ast.Call, ast.BinOp)):
        return text.strip()
    if isinstance(node, ast.List) and any(isinstance(item, (ast.Call, ast.BinOp)) for item in node.elts):
        return [item.value if isinstance(item, ast.Constant) else ast.unparse(item) for item in node.elts]
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def build(kind: Any, content: dict[str, Any], where: str, prefix: str = "") -> Any:
    """A dataclass of the keys' values; `where` names the file in errors."""
    fields = {item.name: item for item in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in content.items():
        if key not in fields:
            raise RequestError(f"{where}: unknown key {prefix + str(key)!r}; {suggest(str(key), fields)}")
        is_none = value == [] and fields[key].default == ()  # an empty list where nothing is what there is without it
        values[key] = () if is_none else _value(hints[key], value, where, prefix + key)
    for name, item in fields.items():
        if name not in values and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise RequestError(f"{where}: the key {prefix + name!r} is missing; add it")
    return kind(**values)


def _value(hint: Any, value: Any, where: str, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            known = ", ".join(item.name for item in dataclasses.fields(hint))
            raise RequestError(f"{where}: {key} must hold keys ({known}), not {value!r}")
        return build(hint, value, where, key + ".")
    if typing.get_origin(hint) in (tuple, dict):
        return _several(hint, value, where, key)
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    nested = next((option for option in options if dataclasses.is_dataclass(option)), None)
    if nested is not None and value is not None:
        return _value(nested, value, where, key)
    return _one(hint, options, value, f"{where}: {key}={value!r}")


def _several(hint: Any, value: Any, where: str, key: str) -> Any:
    """A list, for which one value will do, or values by name."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is dict:
        if not isinstance(value, dict) or not value:
            raise RequestError(f"{where}: {key}={value!r} must hold keys and their values")
        return {str(name): _value(inner[1], item, where, f"{key}.{name}") for name, item in value.items()}
    items = value if isinstance(value, list) else [value]
    if not items:
        raise RequestError(f"{where}: {key} is empty; list at least one")
    return tuple(_value(inner[0], item, where, key) for item in items)


def _one(hint: Any, options: tuple[Any, ...], value: Any, what: str) -> Any:
    """A single value of one of some types."""
    if typing.get_origin(hint) is typing.Literal:
        if value in typing.get_args(hint):
            return value
        raise RequestError(f"{what} is not known; {suggest(str(value), typing.get_args(hint))}")
    if float in options and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) in options or (value is None and type(None) in options):
        return value
    wanted = " or ".join("nothing" if option is type(None) else option.__name__ for option in options)
    raise RequestError(f"{what} must be a {wanted}")
