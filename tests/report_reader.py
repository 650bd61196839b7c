"""Reads a page back: its elements with their attributes, text and place in the tree."""

from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "img", "input", "br", "link", "hr"}


class Page(HTMLParser):
    """A page as a list of elements, each with its attributes, its text and its place in the tree."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[dict[str, Any]] = []
        self._open: list[dict[str, Any]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        element = {"tag": tag, "attrs": dict(attrs), "text": "", "path": list(self._open)}
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element without content."""
        self.elements.append({"tag": tag, "attrs": dict(attrs), "text": "", "path": list(self._open)})

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost element, which must be this one."""
        assert self._open.pop()["tag"] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        """Add to the text of all open elements."""
        for element in self._open:
            element["text"] += data

    def all(self, tag: str = "", cls: str = "", within: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Elements by tag, class and enclosing element."""
        return [
            element
            for element in self.elements
            if (not tag or element["tag"] == tag)
            and (not cls or cls in (element["attrs"].get("class") or "").split())
            and (within is None or any(above is within for above in element["path"]))
        ]

    @property
    def words(self) -> str:
        """The text of the page."""
        return " ".join(self.all("body")[0]["text"].split())


def flat(element: dict[str, Any]) -> str:
    return " ".join(element["text"].split())
