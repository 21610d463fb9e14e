"""A chart of lines as SVG, for the pages of the benchmarks: linear axes, each line named at its end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 720, 340, 64, 16, 170, 52
_GREY, _PALE = "#57606a", "#d8dee4"
COLORS = ("#0969da", "#cf222e", "#1a7f37", "#8250df", "#57606a")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Points of one line, in the order in which they are joined."""

    name: str
    points: Sequence[tuple[float, float]]
    color: str
    has_dots: bool = True


def chart(lines: Sequence[Line], *, x_name: str, y_name: str, marks: Sequence[tuple[float, str]] = ()) -> str:
    """The chart; `marks` are upright lines with words. Both axes begin at zero."""
    most_x = max(x for line in lines for x, _ in line.points)
    most_y = _round_up(max(y for line in lines for _, y in line.points))
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return round(_LEFT + x / max(most_x, 1e-9) * wide, 1), round(_TOP + (1 - y / most_y) * high, 1)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    for part in range(5):
        (x1, y1), (x2, _) = at(0, most_y * part / 4), at(most_x, 0)
        out.append(f'<path d="M{x1} {y1}H{x2}" stroke="{_PALE}"/>')
        out.append(f'<text x="{x1 - 8}" y="{y1 + 4}" text-anchor="end" fill="{_GREY}">{most_y * part / 4:,.4g}</text>')
    for x in sorted({x for line in lines for x, _ in line.points} if len(lines[0].points) <= 6 else _ticks(most_x)):
        x1, y1 = at(x, 0)
        out.append(f'<text x="{x1}" y="{y1 + 18}" text-anchor="middle" fill="{_GREY}">{x:,.4g}</text>')
    out.append(f'<text x="{_LEFT + wide / 2:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">{x_name}; upward: {y_name}</text>')
    for x, words in marks:
        x1, y1 = at(x, most_y)
        out.append(f'<path d="M{x1} {y1}V{_TOP + high}" stroke="#bf8700" stroke-dasharray="4 3"/>')
        out.append(f'<text x="{x1 + 4}" y="{y1 + 12}" fill="#9a6700" font-size="11">{words}</text>')
    ends = _apart([at(*line.points[-1])[1] for line in lines])
    for line, end in zip(lines, ends, strict=True):
        points = [at(*point) for point in line.points]
        path = " L".join(f"{x} {y}" for x, y in points)
        out.append(f'<path d="M{path}" fill="none" stroke="{line.color}" stroke-width="2"/>')
        if line.has_dots:
            out += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{line.color}"/>' for x, y in points]
        out.append(f'<text x="{points[-1][0] + 10}" y="{end + 4}" fill="{line.color}">{line.name}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def _round_up(most: float) -> float:
    """The next number that four even steps divide well."""
    unit = 10.0 ** math.floor(math.log10(most)) if most > 0 else 1.0
    return next(unit * step for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if unit * step >= most)


def _ticks(most: float) -> list[float]:
    unit = 10.0 ** math.floor(math.log10(max(most, 1e-9)))
    step = next(unit * part for part in (0.1, 0.2, 0.5, 1) if most / (unit * part) <= 10)
    return [step * n for n in range(int(most / step) + 1)]


def _apart(ys: Sequence[float]) -> list[float]:
    """Where names go, so that none lies on another."""
    placed: dict[int, float] = {}
    for index, y in sorted(enumerate(ys), key=lambda one: one[1]):
        placed[index] = max([y, *(other + 15 for other in placed.values())]) if placed else y
    return [placed[index] for index in range(len(ys))]
