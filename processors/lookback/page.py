"""An explanation as one page that needs nothing beside itself: styles inline, pictures as data URIs, no script.

Everything from the log is escaped by the template engine, and its control signs are written out; the page's own policy
forbids it to load anything.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from processors.lookback import pictures
from processors.lookback.explain import Explanation
from processors.lookback.words import box, milliseconds, proof, shown
from schemas.errors import ContractError, TransientError
from schemas.events import FrameRefused
from streams.past import Past
from streams.pixels import Pixels

_FRAME_SIDE_PX_MAX = 1600
_CROPS_MOST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """The frame with everything drawn into it, and crops by observation and by candidate index, as data URIs.

    `why_none` says why there is no picture.
    """

    frame: str = ""
    observations: Mapping[int, str] = field(default_factory=dict)
    candidates: Mapping[int, str] = field(default_factory=dict)
    why_none: str = ""


def page(e: Explanation, found: Pictures, moment: Callable[[int], str]) -> str:
    """The page, as HTML text.

    Args:
        found: From `pictures_of`.
        moment: A time in microseconds since the epoch as people read it.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    engine = Environment(
        loader=PackageLoader("processors.lookback"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.filters |= {"shown": shown, "moment": moment, "ms": milliseconds, "proof": proof, "box": box}
    return engine.get_template("explain.html").render(e=e, pictures=found)


def pictures_of(past: Past, e: Explanation) -> Pictures:
    """The pictures of an explanation. What cannot be fetched or shown is said, and stops nothing."""
    if e.frame is not None and e.frame.event == FrameRefused.__name__:
        return Pictures(why_none="the door kept no bytes of a frame that it refused")
    try:
        content = past.blobs.get(e.frame_ref.blob)
        pixels = pictures.decoded(content, size_px=_size(e))
    except (ContractError, TransientError) as error:
        return Pictures(why_none=str(error))
    seen = e.inference.content.get("observations", ()) if e.inference is not None else ()
    left_out = [c.candidate.polygon_px for c in e.left_out]
    marks = [_mark(f"{n + 1}", o["polygon_px"], pictures.GREEN) for n, o in enumerate(seen)]
    marks += [_mark(f"c{n + 1}", polygon, pictures.AMBER, dashed=True) for n, polygon in enumerate(left_out)]
    small, _ = pictures.fitted(pictures.drawn(pixels, marks), side_px_max=_FRAME_SIDE_PX_MAX)
    return Pictures(
        frame=pictures.data_uri(small),
        observations=_crops(pixels, [o["polygon_px"] for o in seen]),
        candidates=_crops(pixels, left_out),
    )


def _size(e: Explanation) -> tuple[int, int] | None:
    """The size that the models saw; else the one that assessment saw."""
    for node in (e.inference, e.assessment):
        if node is not None and "width_px" in node.content:
            return node.content["width_px"], node.content["height_px"]
    return None


def _mark(tag: str, polygon_px: Sequence[float], colour: tuple[int, int, int], *, dashed: bool = False) -> pictures.Mark:
    return pictures.Mark(tag=tag, polygon_px=polygon_px, colour=colour, dashed=dashed)


def _crops(pixels: Pixels, polygons: Sequence[Sequence[float]]) -> Mapping[int, str]:
    made = {n: pictures.cropped(pixels, polygon) for n, polygon in enumerate(polygons[:_CROPS_MOST])}
    return {n: pictures.data_uri(crop) for n, crop in made.items() if crop is not None}
