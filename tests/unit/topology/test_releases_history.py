"""`hindsight releases history` has a line for whatever lies on vision.releases."""

import pytest

from schemas.catalogue import RELEASES, TOPICS
from schemas.plain import to_plain
from tests.event_bytes import sample
from topology.cli.releases_past import _what, _why


@pytest.mark.parametrize("event", TOPICS[RELEASES].events, ids=lambda e: e.__name__)
@pytest.mark.parametrize("full", [True, False])
def test_every_event_has_its_line(event: type, full: bool) -> None:
    """Also one that names a model and no version, and one that leaves out what may be left out."""
    row = {"appended_at": "", "offset": 0, "event": event.__name__, **to_plain(sample(event, event.__name__, full=full))}
    assert isinstance(_why(row), str)
    assert _what(row).strip()
