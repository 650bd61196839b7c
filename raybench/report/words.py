"""Times and nested facts in words, for people."""

import datetime as dt
from collections.abc import Mapping
from typing import Any


def duration(seconds: float) -> str:
    """Seconds in words: `0.42 s`, `93 s`, `12 min 5 s`, `3 h 20 min`."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def moment(text: str) -> str:
    """An ISO time to the minute, in its own zone; other text as it is."""
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{time:%Y-%m-%d %H:%M} {time.tzname() or ''}".rstrip()


def facts(nested: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Nested facts as lines of path and value; bytes and seconds with their units."""
    lines: list[tuple[str, str]] = []
    for name, value in nested.items():
        path = f"{above}{name}"
        lines += facts(value, f"{path}.") if isinstance(value, Mapping) and value else [(path, _fact(path, value))]
    return lines


def _fact(path: str, value: Any) -> str:
    if value is None or value in ("", {}, []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)) and path.endswith("_bytes"):
        return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.1f} MiB"
    if isinstance(value, (int, float)) and path.endswith(("_s", "seconds")):
        return duration(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
