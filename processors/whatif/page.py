"""A what-if as one self-contained HTML page: numbers, alerts, and the worst cases side by side.

Guarantees: the page is built as a tree and written by the standard library's serializer, so that whatever a label, a
device's name or a reason holds is text and never markup; it loads nothing and runs nothing.
"""

import base64
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from processors.whatif.match import Change, Kind, why_left_out
from processors.whatif.pictures import drawn
from processors.whatif.replay import FrameCompared
from schemas.errors import ContractError
from schemas.types import Candidate, Reading
from streams.ports import BlobStore

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1b1b1b }
table { border-collapse: collapse; margin: 1rem 0 } th, td { text-align: left; vertical-align: top }
th, td { padding: .25rem .8rem .25rem 0 }
th { border-bottom: 1px solid #999; font-weight: 600 } img { max-width: 100%; border: 1px solid #ccc; display: block }
figure { margin: 0; flex: 1 1 20rem } .pair { display: flex; gap: 1.5rem; flex-wrap: wrap; margin: .5rem 0 2rem }
.same { color: #777 } .moved { color: #a05a00 } .changed { color: #8a2a8a } .lost { color: #b3261e } .gained { color: #1d7a2f }
"""


def page(report: Mapping[str, Any], cases: tuple[FrameCompared, ...], blobs: BlobStore) -> bytes:
    """The page.

    Args:
        report: What `hindsight whatif --format json` prints.
        cases: Frames to show, the worst first; their images are fetched.
    """
    root = Element("html", lang="en")
    head, body = SubElement(root, "head"), SubElement(root, "body")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY})
    SubElement(head, "title").text = f"What if: {_asked(report)}"
    SubElement(head, "style").text = _STYLE
    SubElement(body, "h1").text = f"What if: {_asked(report)}"
    SubElement(body, "p").text = (
        f"{report['frames']} frames of {report['source']} between {report['from']} and {report['to']}, read again "
        f"{report['runner']} in {report['took_s']} s; {report['frames_not_read']} could not be read."
    )
    _table(body, ("", "recorded", "what if"), list(_rates(report)))
    _table(body, ("readings", "count"), [(name, str(count)) for name, count in report["readings"].items()])
    _table(body, ("recorded outcome", "what if", "frames"), [tuple(map(str, row.values())) for row in report["outcomes"]])
    for which in ("gained", "lost"):
        alerts = report["alerts_listed"][which]
        SubElement(body, "h2").text = f"Alerts {which}: {report['alerts'][which]}"
        if alerts:
            _table(body, ("kind", "device", "passage", "message"), [_alert(a) for a in alerts])
    SubElement(body, "h2").text = f"The worst {len(cases)} frames"
    for case in cases:
        _case(body, case, blobs)
    written: bytes = tostring(root, encoding="utf-8", method="html")
    return b"<!doctype html>\n" + written


def _asked(report: Mapping[str, Any]) -> str:
    thresholds = [f"{name} = {value:g}" for name, value in report["question"]["thresholds"].items()]
    return ", ".join([report["question"]["release"] or "the releases of then", *thresholds])


def _rates(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    agreement, proofs = report["agreement"], report["proofs"]
    for unit in ("frames", "passages"):
        yield f"{unit} that say the same", "", rate_in_words(agreement[unit])
    for unit in ("readings", "frames", "passages"):
        title = "readings that verify themselves" if unit == "readings" else f"{unit} with such a reading"
        yield title, rate_in_words(proofs["recorded"][unit]), rate_in_words(proofs["whatif"][unit])


def rate_in_words(rate: Mapping[str, Any]) -> str:
    """A share with its interval, such as "95.0 % (88.1 to 98.0), 95 of 100"."""
    if rate["rate"] is None:
        return "none to count"
    return f"{rate['rate']:.1%} ({rate['low']:.1%} to {rate['high']:.1%}), {rate['count']} of {rate['of']}"


def _alert(alert: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(alert[name] or "") for name in ("kind", "subject", "passage_id", "message"))


def _case(body: Element, case: FrameCompared, blobs: BlobStore) -> None:
    frame = case.found.event.frame
    SubElement(body, "h3").text = f"{frame.device_id} #{frame.sequence}, frame {frame.frame_id}"
    assert case.actual is not None, "only frames that were read are cases"
    assert case.other is not None, "only frames that were read are cases"
    try:
        image = blobs.get(frame.blob)
    except ContractError as error:
        SubElement(body, "p").text = str(error)
        image = b""
    pair = SubElement(body, "div", {"class": "pair"})
    for title, side, which in (("recorded", case.actual, "actual"), ("what if", case.other, "other")):
        mine = [(c, r) for c in case.changes if (r := getattr(c, which)) is not None]
        figure = SubElement(pair, "figure")
        outcome = f"{title}: {side.result.outcome} by {side.result.release or 'no release'}"
        SubElement(figure, "figcaption").text = outcome + (f", {side.result.detail}" if side.result.detail else "")
        picture = drawn(image, [(change.kind, reading) for change, reading in mine]) if image else None
        if picture is not None:
            SubElement(figure, "img", src=f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}", alt=title)
        _readings(figure, mine, getattr(case.other.inferred, "candidates", ()))


def _readings(parent: Element, mine: list[tuple[Change, Reading]], candidates: tuple[Candidate, ...]) -> None:
    items = SubElement(parent, "ol")
    for change, reading in mine:
        proof = {True: ", verifies itself", False: ", check fails", None: ""}[reading.valid]
        item = SubElement(items, "li", {"class": change.kind.value})
        where = f", overlap {change.iou:.2f}" if change.kind in (Kind.MOVED, Kind.CHANGED) and change.iou is not None else ""
        item.text = f"{reading.label} ({reading.kind}, {reading.confidence:.3f}{proof}): {change.kind.value}{where}"
        if why := why_left_out(change, candidates):
            SubElement(item, "br").tail = why


def _table(parent: Element, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = SubElement(parent, "table")
    for cells, tag in ((header, "th"), *((row, "td") for row in rows)):
        line = SubElement(table, "tr")
        for cell in cells:
            SubElement(line, tag).text = cell
