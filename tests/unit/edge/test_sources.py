"""Where an edge device's frames come from."""

import io
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Thread

import av
import pytest
from PIL import Image

from schemas.errors import ConfigurationError, ContractError
from streams.edge.sources import open_source
from streams.images import inspect

FRAMES, RATE = 30, 10


def clock() -> int:
    return 1_790_000_000_000_000


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Three seconds of ten frames, each with its number as its shade."""
    path = tmp_path / "v.mp4"
    with av.open(path, "w") as out:
        stream = out.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(FRAMES):
            picture = av.VideoFrame.from_image(Image.new("RGB", (64, 48), (number * 8,) * 3))
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return path


def shades(where: Path, **options: object) -> list[int]:
    captures = open_source(str(where), **{"fps": 0, "clock": clock, **options})  # type: ignore[arg-type]
    return [round(Image.open(io.BytesIO(c.image)).convert("L").getpixel((32, 24)) / 8) for c in captures]  # type: ignore[operator]


def test_a_video_gives_its_frames_as_jpeg(video: Path) -> None:
    """Every frame of a video comes in order, as a JPEG of the video's size."""
    captures = list(open_source(str(video), fps=0, clock=clock))
    facts = inspect(captures[0].image, max_bytes=10**6, max_pixels=10**6)
    assert (facts.media_type, facts.width_px, facts.height_px) == ("image/jpeg", 64, 48)
    assert shades(video) == list(range(FRAMES))


@pytest.mark.parametrize("fps", [1, 2, 5, 10, 25])
def test_a_video_is_thinned_to_the_rate_wanted(video: Path, fps: int) -> None:
    """A video of ten frames a second gives as many for each second as are wanted, evenly, and never a frame twice."""
    assert shades(video, fps=fps) == list(range(0, FRAMES, max(1, RATE // fps)))


def test_a_video_goes_on_behind_its_mark(video: Path) -> None:
    """After a mark the rest comes, and the mark of another source changes nothing."""
    first = list(islice(open_source(str(video), fps=5, clock=clock), 4))
    assert shades(video, fps=5, after=first[-1].mark) == list(range(8, FRAMES, 2))
    assert len(shades(video, fps=5, after="3 /elsewhere.mp4")) == 15


def test_a_folder_gives_its_images_by_name_and_loops(tmp_path: Path) -> None:
    """The images of a folder come sorted by name as they are, other files are left out, and looping begins again."""
    for name in ("b.png", "a.jpg", "c.webp", "notes.txt"):
        (tmp_path / name).write_bytes(name.encode())
    captures = list(islice(open_source(str(tmp_path), fps=0, clock=clock, loop=True), 4))
    assert [c.image for c in captures] == [b"a.jpg", b"b.png", b"c.webp", b"a.jpg"]
    assert [c.media_type for c in captures][:3] == ["image/jpeg", "image/png", "image/webp"]
    rest = open_source(str(tmp_path), fps=0, clock=clock, after=captures[3].mark, loop=True)
    assert next(rest).image == b"b.png"


def test_an_address_is_read_as_a_camera(video: Path) -> None:
    """A stream behind an address gives its frames, thinned, without marks: it has no place to go on from."""
    handler = partial(SimpleHTTPRequestHandler, directory=video.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        try:
            where = f"http://127.0.0.1:{server.server_port}/{video.name}"
            captures = list(open_source(where, fps=2, clock=clock))
        finally:
            server.shutdown()
            serving.join()
    assert len(captures) == 6
    assert {c.mark for c in captures} == {""}


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    """A missing path, an empty folder, a file that is no video and a camera that is not there say so at once."""
    for where in (str(tmp_path / "nothing"), str(tmp_path)):
        with pytest.raises(ConfigurationError):
            open_source(where, fps=1, clock=clock)
    (tmp_path / "v.mp4").write_bytes(b"no video")
    for where in (str(tmp_path / "v.mp4"), "/dev/video97"):
        with pytest.raises(ContractError):
            next(open_source(where, fps=1, clock=clock))
