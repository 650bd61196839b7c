"""What every plot is drawn on: sizes, colours and settings, and the SVG that comes of a figure.

Nothing of the clock, the machine or the user's settings enters: equal values give equal text. Colours are placeholders
that become CSS variables, so that a plot is legible in light and in dark.
"""

import html
import io
import re
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

from raybench.spec import content_key

PANEL_PT, WHOLE_PT = 340.0, 400.0  # widths of the two sizes of plots
ROW_PT = 24.0
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "h")
NUM_SERIES = len(MARKERS)
NUM_BUCKETS = 7

INK, FAINT, PAPER = "#0000a0", "#0000a1", "#0000a2"
SERIES = tuple(f"#0000b{number}" for number in range(NUM_SERIES))
BUCKETS = tuple(f"#0000c{number}" for number in range(NUM_BUCKETS))
BUCKET_INKS = tuple(f"#0000d{number}" for number in range(NUM_BUCKETS))
_COLOURS = {
    INK: "currentColor",
    FAINT: "var(--line)",
    PAPER: "var(--panel)",
    **{placeholder: f"var(--series-{number})" for number, placeholder in enumerate(SERIES)},
    **{placeholder: f"var(--bucket-{number})" for number, placeholder in enumerate(BUCKETS)},
    **{placeholder: f"var(--bucket-ink-{number})" for number, placeholder in enumerate(BUCKET_INKS)},
}
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "raybench",
    "font.size": 11,
    "font.family": ["sans-serif"],
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10,
    "ytick.labelsize": 11,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "path.simplify": False,
}


def settings() -> Any:
    """A context in which matplotlib draws with these settings alone."""
    return style.context(["default", _SETTINGS], after_reset=True)


def panel(width_pt: float, height_pt: float, *, left_pt: float, bottom_pt: float, right_pt: float) -> tuple[Any, Any]:
    """A figure of fixed size with one pair of axes at a fixed place, so that no font decides the layout."""
    figure = Figure(figsize=(width_pt / 72, height_pt / 72))
    width, height = width_pt - left_pt - right_pt, height_pt - bottom_pt - 8
    axes = figure.add_axes((left_pt / width_pt, bottom_pt / height_pt, width / width_pt, height / height_pt))
    return figure, axes


def svg_text(figure: Any, name: str) -> str:
    """The figure as an SVG element: no preamble, no metadata, its own ids, colours as CSS variables."""
    prefix = f"plot-{content_key(name, length=8)}"
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", lambda tag: _own(tag.group(), prefix), text)
    view = f"0 0 {figure.get_figwidth() * 72:g} {figure.get_figheight() * 72:g}"
    start = f'<svg class="plot" viewBox="{view}" role="img" aria-label="{html.escape(name)}">'
    return re.sub(r"^<svg[^>]*>", lambda _: start, text).strip()


def _own(tag: str, prefix: str) -> str:
    """One tag with ids that are unique in the page and the page's font; text between tags is left alone."""
    for placeholder, colour in _COLOURS.items():
        tag = tag.replace(placeholder, colour)
    tag = re.sub(r"font-family: [^;]*; ", "", tag).replace("xlink:href", "href")
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", tag)
