"""Pictures that fit a page: inline SVG in the page's own colors, or PNG bytes in light ones.

Explicit figures, never pyplot. An SVG is drawn in stand-in colors, which then become the page's
CSS variables, so that one picture is right in light, dark and print. Its text stays text.
"""

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from usergrowth_dagster.fonts import use_fonts

WIDTH = 5.0
"""Inches, 72 units each: a picture that fills a phone of 400 px keeps its letters legible."""
FONT = 9.5
_DPI = 110


@dataclass(frozen=True)
class Palette:
    """The colors of a picture, by what they stand for."""

    ink: str
    muted: str
    grid: str
    paper: str
    treated: str
    control: str
    loss: str
    third: str


_STAND_INS = Palette(*(f"#0{n}0{n}0{n}" for n in range(1, 9)))
LIGHT = Palette(
    ink="#1a1d21",
    muted="#5c6670",
    grid="#dfe3e8",
    paper="#ffffff",
    treated="#0067a8",
    control="#b4520a",
    loss="#c9d1d9",
    third="#00775a",
)
DARK = Palette(
    ink="#e8eaed",
    muted="#a3adb8",
    grid="#363d45",
    paper="#16191d",
    treated="#58b1f0",
    control="#f0995a",
    loss="#4a535d",
    third="#3fc79a",
)
"""The page's colors; those of the arms after Okabe and Ito, with markers and lines of their own."""

Draw = Callable[[Any, Palette], None]
"""Draws on a figure."""


@dataclass(frozen=True)
class Picture:
    """A picture that can be drawn: ``alt`` says in a sentence what it shows."""

    name: str
    caption: str
    alt: str
    height: float
    draw: Draw

    def svg(self) -> str:
        """As an ``<svg>`` element for a page that has the palette's names as CSS variables."""
        with _style(_STAND_INS, self.name) as save:
            text = save(self, _STAND_INS, "svg").decode()
        return _inline(text, self.alt)

    def png(self) -> bytes:
        """As PNG bytes on white."""
        with _style(LIGHT, self.name) as save:
            return save(self, LIGHT, "png")


class _style:
    """Matplotlib's settings for one picture; they are global, so they are put back."""

    def __init__(self, colors: Palette, name: str) -> None:
        from matplotlib import rc_context

        use_fonts()
        self.context = rc_context(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": name,
                "text.parse_math": False,
                "font.size": FONT,
                "text.color": colors.ink,
                "axes.labelcolor": colors.muted,
                "axes.edgecolor": colors.muted,
                "axes.facecolor": "none",
                "axes.axisbelow": True,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "xtick.color": colors.muted,
                "ytick.color": colors.muted,
                "xtick.labelcolor": colors.ink,
                "ytick.labelcolor": colors.ink,
                "grid.color": colors.grid,
                "grid.linewidth": 0.7,
                "legend.frameon": False,
                "legend.labelcolor": colors.ink,
            }
        )

    def __enter__(self) -> Callable[[Picture, Palette, str], bytes]:
        self.context.__enter__()
        return _save

    def __exit__(self, *error: Any) -> None:
        self.context.__exit__(*error)


def _save(picture: Picture, colors: Palette, kind: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, picture.height), layout="constrained")
    FigureCanvasAgg(figure)
    out = io.BytesIO()
    with warnings.catch_warnings():
        # a letter of a third script: the page's own font has what these fonts lack
        warnings.filterwarnings("ignore", message="Glyph")
        picture.draw(figure, colors)
        if kind == "svg":
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            figure.savefig(out, format="svg", transparent=True, metadata=nothing)
        else:
            figure.savefig(out, format="png", dpi=_DPI, facecolor=colors.paper)
    return out.getvalue()


def _inline(text: str, alt: str) -> str:
    """A whole SVG file as an element of a page, without names that clash with other pictures."""
    from html import escape

    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*</defs>", "", text)
    box = re.search(r'viewBox="[^"]+"', text)
    assert box is not None
    head = f'<svg {box.group()} role="img" aria-label="{escape(alt, quote=True)}">'
    text = re.sub(r"<svg[^>]*>", lambda _: head, text, count=1)
    text = re.sub(r' id="(?![mp][0-9a-f]{10}")[^"]*"', "", text)
    text = re.sub(r"font-family: [^;\"]+", "font-family: var(--font)", text)
    text = re.sub(r"font: ([^;\"]*?)px [^;\"]+", r"font: \1px var(--font)", text)
    for field in fields(Palette):
        text = text.replace(getattr(_STAND_INS, field.name), f"var(--{field.name})")
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def css(colors: Palette) -> str:
    """A palette as CSS variables."""
    return " ".join(f"--{field.name}: {getattr(colors, field.name)};" for field in fields(Palette))
