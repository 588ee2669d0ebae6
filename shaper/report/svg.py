"""Plots as inline SVG, without a plotting library: axes, points, lines, bands, bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, WIDE = 620, 1290
_RIGHT, _TOP, _BOTTOM = 14, 14, 44

# Okabe and Ito's palette, told apart with every kind of colour vision; report.css has its values for light and dark.
COLOURS = tuple(f"var(--c{number})" for number in range(7))
BAD = "var(--c-bad)"


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from data to pixels.

    Args:
        unit: of the ticks, in units of the data: 60 for minutes where the data are seconds.
        whole: ticks stand at whole numbers only.
        fixed: ticks stand at these values.
    """

    low: float
    high: float
    title: str
    log: bool = False
    show: Callable[[float], str] = field(default=lambda value: f"{value:g}")
    unit: float = 1.0
    whole: bool = False
    fixed: tuple[float, ...] = ()

    def label(self, value: float) -> str:
        """What stands at a tick."""
        return self.show(value / self.unit)

    def at(self, value: float) -> float:
        """Position between 0 and 1."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return (math.log(max(value, self.low)) - low) / (high - low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values within the range: powers of ten, or steps of 1, 2 or 5."""
        if self.fixed:
            return list(self.fixed)
        low, high = self.low / self.unit, self.high / self.unit
        return [value * self.unit for value in (_log_ticks(low, high) if self.log else self._steps(low, high))]

    def _steps(self, low: float, high: float) -> list[float]:
        rough = (high - low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
        if self.whole:
            step = max(1.0, step)
        first = math.ceil(low / step)
        return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if math.log10(high / low) > 2.2:
        every = max(1, (last - first) // 6)
        return [10.0**power for power in range(first, last + 1, every) if low <= 10.0**power <= high]
    steps = (1, 2, 5) if high / low > 4 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    return [m * 10.0**p for p in range(first, last + 1) for m in steps if low <= m * 10.0**p <= high]


def axis(values: Iterable[float], title: str, *, log: bool = False, show: Callable[[float], str] | None = None) -> Axis:
    """An axis that holds all values; a linear one begins at zero."""
    known = [value for value in values if value is not None and math.isfinite(value) and (value > 0 or not log)]
    if log:
        low, high = (min(known), max(known)) if known else (1.0, 10.0)
        low, high = low / 1.25, high * 1.25
    else:
        low, high = 0.0, max(known, default=1.0) * 1.05
        if high <= 0:
            high = 1.0
    return Axis(low, high, title, log, show or (lambda value: f"{value:g}"))


@dataclass(frozen=True, slots=True)
class Frame:
    """Size of a plot in pixels, and the room for the labels at its left."""

    width: int = WIDTH
    height: int = 320
    left: int = 62


_FRAME = Frame()


class Plot:
    """One plot; add marks, then render."""

    def __init__(self, label: str, x: Axis, y: Axis, frame: Frame = _FRAME) -> None:
        self.label, self.x, self.y = label, x, y
        self.width, self.height, self.left = frame.width, frame.height, frame.left
        self.marks: list[str] = []
        self.keys: list[tuple[str, str, str]] = []

    def px(self, value: float) -> float:
        """Pixel of an x value, clipped to the frame."""
        return self.left + min(1.0, max(0.0, self.x.at(value))) * (self.width - self.left - _RIGHT)

    def py(self, value: float) -> float:
        """Pixel of a y value, clipped to the frame."""
        return self.height - _BOTTOM - min(1.0, max(0.0, self.y.at(value))) * (self.height - _TOP - _BOTTOM)

    def key(self, name: str, colour: str, shape: str = "dot") -> None:
        """Add an entry to the legend: `dot`, `cross`, `line`, `dashed` or `band`."""
        self.keys.append((name, colour, shape))

    def points(self, rows: Iterable[tuple[float, float, str]], colour: str, *, radius: float = 2.6) -> None:
        """Dots at (x, y), each with a tooltip."""
        for x, y, tip in rows:
            self.marks.append(
                f'<circle cx="{self.px(x):.1f}" cy="{self.py(y):.1f}" r="{radius}" fill="{colour}" '
                f'fill-opacity=".55"><title>{escape(tip)}</title></circle>'
            )

    def crosses(self, rows: Iterable[tuple[float, float, str]], colour: str = BAD) -> None:
        """Crosses at (x, y), each with a tooltip."""
        for x, y, tip in rows:
            px, py = self.px(x), self.py(y)
            self.marks.append(
                f'<path d="M{px - 4:.1f} {py - 4:.1f}l8 8m0 -8l-8 8" stroke="{colour}" stroke-width="2" fill="none">'
                f"<title>{escape(tip)}</title></path>"
            )

    def line(
        self, rows: Sequence[tuple[float, float]], colour: str, *, dashed: bool = False, steps: bool = False
    ) -> None:
        """A line through (x, y), in steps where a value holds until the next."""
        if not rows:
            return
        path = [f"M{self.px(rows[0][0]):.1f} {self.py(rows[0][1]):.1f}"]
        for x, y in rows[1:]:
            if steps:
                path.append(f"H{self.px(x):.1f}V{self.py(y):.1f}")
            else:
                path.append(f"L{self.px(x):.1f} {self.py(y):.1f}")
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.marks.append(f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')

    def band(self, rows: Sequence[tuple[float, float, float]], colour: str) -> None:
        """The area between two curves (x, low, high)."""
        if not rows:
            return
        there = [f"{self.px(x):.1f} {self.py(low):.1f}" for x, low, _ in rows]
        back = [f"{self.px(x):.1f} {self.py(high):.1f}" for x, _, high in reversed(rows)]
        self.marks.append(f'<path d="M{"L".join(there + back)}Z" fill="{colour}" fill-opacity=".15"/>')

    def bar(self, x0: float, x1: float, y: float, height_px: float, colour: str, tip: str) -> None:
        """A horizontal bar from x0 to x1 at row y."""
        left, right = self.px(x0), self.px(x1)
        self.marks.append(
            f'<rect x="{left:.1f}" y="{self.py(y) - height_px / 2:.1f}" width="{max(0.6, right - left):.1f}" '
            f'height="{height_px:.1f}" fill="{colour}" fill-opacity=".85"><title>{escape(tip)}</title></rect>'
        )

    def upright(self, x: float, text: str) -> None:
        """A dashed upright line with a note beside it."""
        px = self.px(x)
        self.marks.append(f'<path class="mark" d="M{px:.1f} {_TOP}V{self.height - _BOTTOM}"/>')
        anchor, shift = ("end", -4) if px > self.width / 2 else ("start", 4)
        self.marks.append(f'<text x="{px + shift:.1f}" y="{_TOP + 9}" text-anchor="{anchor}">{escape(text)}</text>')

    def render(self) -> str:
        """The plot as an SVG element."""
        parts = [
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self.label, quote=True)}">',
            self.frame(),
            *self.marks,
            "</svg>",
        ]
        return "".join(parts) + self._legend()

    def frame(self) -> str:
        """Grid, axes and their labels, as elements."""
        parts = []
        bottom = self.height - _BOTTOM
        for value in self.x.ticks():
            px = self.px(value)
            parts.append(f'<path class="grid" d="M{px:.1f} {_TOP}V{bottom}"/>')
            parts.append(
                f'<text x="{px:.1f}" y="{bottom + 16}" text-anchor="middle">{escape(self.x.label(value))}</text>'
            )
        for value in self.y.ticks():
            py = self.py(value)
            parts.append(f'<path class="grid" d="M{self.left} {py:.1f}H{self.width - _RIGHT}"/>')
            parts.append(
                f'<text x="{self.left - 6}" y="{py + 4:.1f}" text-anchor="end">{escape(self.y.label(value))}</text>'
            )
        middle = (self.left + self.width - _RIGHT) / 2
        parts.append(
            f'<text class="title" x="{middle}" y="{self.height - 6}" text-anchor="middle">{escape(self.x.title)}</text>'
        )
        centre = (_TOP + bottom) / 2
        parts.append(
            f'<text class="title" transform="translate(13 {centre}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y.title)}</text>"
        )
        parts.append(f'<path class="axis" d="M{self.left} {_TOP}V{bottom}H{self.width - _RIGHT}"/>')
        return "".join(parts)

    def _legend(self) -> str:
        if not self.keys:
            return ""
        rows = []
        for name, colour, shape in self.keys:
            mark = {
                "dot": f'<circle cx="6" cy="6" r="4" fill="{colour}"/>',
                "cross": f'<path d="M2 2l8 8m0 -8l-8 8" stroke="{colour}" stroke-width="2"/>',
                "line": f'<path d="M0 6H12" stroke="{colour}" stroke-width="2"/>',
                "dashed": f'<path d="M0 6H4M8 6H12" stroke="{colour}" stroke-width="2"/>',
                "band": f'<rect width="12" height="12" fill="{colour}" fill-opacity=".3"/>',
            }[shape]
            rows.append(f'<span><svg width="12" height="12" aria-hidden="true">{mark}</svg> {escape(name)}</span>')
        return f'<p class="legend">{"".join(rows)}</p>'


# What report.css says of plots, for one that stands alone: on white, in the colours for light.
_ALONE = (
    "svg{--ink:#1c2430;--dim:#566070;--rule:#d8dee6;--c0:#0072b2;--c1:#e69f00;--c2:#009e73;--c3:#cc79a7;--c4:#56b4e9;"
    "--c5:#8a7a00;--c6:#99a2ad;--c-bad:#d55e00;background:#fff;color:#1c2430;font-family:sans-serif}"
    "text{font-size:11px;fill:var(--dim)}.title{fill:var(--ink)}.grid{stroke:var(--rule);stroke-width:.6;fill:none}"
    ".axis{stroke:var(--dim);fill:none}.mark{stroke:var(--dim);stroke-dasharray:3 3;fill:none}"
)
_KEY, _KEYS_PER_ROW = 18, 3


def standalone(plot: Plot) -> str:
    """The plot as a file of its own, with the legend below."""
    rows = -(-len(plot.keys) // _KEYS_PER_ROW)
    height = plot.height + _KEY * rows + (6 if rows else 0)
    size = f'width="{plot.width}" height="{height}" viewBox="0 0 {plot.width} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(plot.label, quote=True)}">',
        f"<style>{_ALONE}</style>",
        f'<rect width="{plot.width}" height="{height}" fill="#fff"/>',
        plot.frame(),
        *plot.marks,
    ]
    for number, (name, colour, shape) in enumerate(plot.keys):
        x = plot.left + number % _KEYS_PER_ROW * (plot.width - plot.left) // _KEYS_PER_ROW
        y = plot.height + _KEY * (number // _KEYS_PER_ROW) + 10
        line = "h6m4 0h6" if shape == "dashed" else "h16"
        parts.append(f'<path d="M{x} {y}{line}" stroke="{colour}" stroke-width="2.5"/>')
        parts.append(f'<text x="{x + 22}" y="{y + 4}">{escape(name)}</text>')
    return "".join(parts) + "</svg>\n"
