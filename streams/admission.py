"""What a frame's description must be like, whichever door it comes through: gRPC, HTTP or the SDK. Pure.

The bounds keep a frame's event far below what the log's topics take, so that whatever follows from it fits as well, and
keep names and times to what readers in any language can show.
"""

import re
from collections.abc import Mapping

NAME_RULE = "1 to 128 letters, digits and . _ : -, beginning with a letter or a digit"
LABELS_MAX, TEXT_MAX = 32, 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)
_YEAR_2000_US, _YEAR_2100_US = 946_684_800_000_000, 4_102_444_800_000_000


def is_name(text: str) -> bool:
    """Whether it can be a device's or a session's id."""
    return _NAME.fullmatch(text) is not None


def is_time(captured_at_us: int) -> bool:
    """Whether a time (microseconds since the epoch) lies in the years 2000 to 2099."""
    return _YEAR_2000_US <= captured_at_us < _YEAR_2100_US


def trouble_in_texts(passage_id: str, labels: Mapping[str, str]) -> str:
    """What is wrong with passage and labels, as a sentence; empty when nothing is."""
    texts = (passage_id, *labels, *labels.values())
    if len(labels) > LABELS_MAX or any(len(text) > TEXT_MAX for text in texts):
        return f"passage_id and labels hold {TEXT_MAX} characters each, and there are at most {LABELS_MAX} labels"
    if not all(_is_unicode(text) for text in texts):
        return "passage_id and labels hold Unicode text, and half a surrogate pair is none"
    return ""


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
