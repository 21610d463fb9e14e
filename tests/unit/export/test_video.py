"""MP4, read back by PyAV: frames, their times, and what is drawn where."""

import json
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from processors.export import said
from processors.export.drawing import GREY, Picture, decoded
from processors.export.video_files import Times, file_name
from processors.export.window import Window
from schemas.errors import ConfigurationError
from tests.unit.export.exporting import exported
from tests.unit.export.recorded import BOX, HEIGHT_PX, START_US, WIDTH_PX, Recorded, a_run, candidate, picture

# H.264 keeps brightness well and colour at half the size: a line of three pixels loses some of its own.
TOLERANCE = 60


def read_back(file: Path) -> list[tuple[int, Picture]]:
    """(ms, RGB) of every frame."""
    with av.open(str(file)) as container:
        return [(round(float(f.time or 0) * 1000), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def is_like(pixel: np.ndarray, rgb: tuple[int, int, int]) -> bool:  # type: ignore[type-arg]  # three numbers
    return bool(np.abs(pixel.astype(int) - np.array(rgb)).max() <= TOLERANCE)


def edge(shown: Picture, box: tuple[float, ...] = BOX) -> list[np.ndarray]:  # type: ignore[type-arg]  # three numbers each
    """Pixels in the middle of a box's four sides."""
    (x0, y0), (x1, y1) = (int(box[0]), int(box[1])), (int(box[4]), int(box[5]))
    return [shown[y0, (x0 + x1) // 2], shown[y1, (x0 + x1) // 2], shown[(y0 + y1) // 2, x0], shown[(y0 + y1) // 2, x1]]


def test_each_device_has_a_video_of_its_frames_at_their_times(tmp_path: Path) -> None:
    """As many frames as were captured, each as long after the first as the device's clock says."""
    recorded = a_run()
    files, tally = exported(recorded, "mp4", tmp_path / "videos")
    assert [file.name for file in files] == ["gate-1.mp4", "gate-2.mp4"]
    assert [[at for at, _ in read_back(file)] for file in files] == [[0, 100, 200, 300], [0, 100, 200]]
    assert (tally.records, tally.images) == (7, 7)


def test_what_was_read_is_drawn_on_its_box_and_nowhere_else(tmp_path: Path) -> None:
    """The box's sides have the reading's colour, its middle the picture's; a candidate has another colour."""
    (first, _), _ = exported(a_run(), "mp4", tmp_path / "videos")
    shown = [picture for _, picture in read_back(first)]
    assert all(is_like(pixel, said.CANDIDATE_RGB) for pixel in edge(shown[0]))
    assert all(is_like(pixel, said.OBSERVED_RGB) for pixel in edge(shown[3]))
    assert not any(is_like(pixel, said.CANDIDATE_RGB) for pixel in edge(shown[3]))
    plain, _ = decoded(picture(3))
    assert plain is not None
    assert np.abs(shown[3][230, 200].astype(int) - plain[230, 200]).max() <= 12
    assert np.abs(shown[3][400, 500].astype(int) - plain[400, 500]).max() <= 12


def test_an_alert_is_drawn_while_it_stands(tmp_path: Path) -> None:
    """The strip is red from the frame that raised it to the frame that cleared it."""
    (first, _), _ = exported(a_run(), "mp4", tmp_path / "videos")
    below = [picture[HEIGHT_PX + 4 + 3 * 20 + 8, WIDTH_PX - 8] for _, picture in read_back(first)]
    assert [is_like(pixel, said.ALERT_RGB) for pixel in below] == [False, False, True, False]


def test_the_strip_changes_with_the_frame(tmp_path: Path) -> None:
    """Time, release and outcome stand below the picture: the strip is written on, and no two frames have the same."""
    (first, _), _ = exported(a_run(), "mp4", tmp_path / "videos")
    strips = [picture[HEIGHT_PX : HEIGHT_PX + 28].astype(int) for _, picture in read_back(first)]
    assert all(strip.max() > 180 for strip in strips)
    assert all(np.abs(a - b).max() > 60 for a, b in pairwise(strips))


def test_a_frame_without_picture_is_grey_and_says_why(tmp_path: Path) -> None:
    """A blob that is gone, bytes that are no image, and an image that breaks off: each is a frame of its own."""
    recorded = Recorded()
    recorded.frame(0)
    recorded.frame(1, "CSQU3054383", image=None)
    recorded.frame(2, image=b"no image at all")
    recorded.frame(3, image=picture(3, ending=".jpg")[:400] + b"\xff\xd9")
    (file,), tally = exported(recorded, "mp4", tmp_path / "w.mp4")
    shown = read_back(file)
    assert [at for at, _ in shown] == [0, 100, 200, 300]
    for _, grey in shown[1:3]:
        assert is_like(grey[400, 500], GREY)
        assert grey[:100].max() > 180
    assert all(is_like(pixel, said.OBSERVED_RGB) for pixel in edge(shown[1][1]))
    assert tally.images + sum(tally.missing.values()) == 4
    assert sum(tally.missing.values()) >= 2
    assert any("is not there" in why for why in tally.missing)


def test_images_of_other_sizes_are_fitted_and_their_boxes_with_them(tmp_path: Path) -> None:
    """A picture twice as large is halved into the first one's size, and so is its box."""
    recorded = Recorded()
    recorded.frame(0, "A")
    recorded.frame(1, "A", image=picture(1, width_px=2 * WIDTH_PX, height_px=2 * HEIGHT_PX), polygon=tuple(2 * v for v in BOX))
    recorded.frame(2, "A", image=picture(2, width_px=100, height_px=100), polygon=(0, 0, 99, 0, 99, 99, 0, 99))
    recorded.frame(3, image=picture(3, width_px=31, height_px=7))
    (file,), _ = exported(recorded, "mp4", tmp_path / "w.mp4")
    shown = [picture for _, picture in read_back(file)]
    assert len({picture.shape for picture in shown}) == 1
    assert all(is_like(pixel, said.OBSERVED_RGB) for pixel in edge(shown[1]))
    left, top = (WIDTH_PX - 100) // 2, (HEIGHT_PX - 100) // 2
    inside = (left, top, 0, 0, left + 99, top + 99)
    assert all(is_like(pixel, said.OBSERVED_RGB) for pixel in edge(shown[2], inside))
    assert is_like(shown[2][20, 20], GREY)


@pytest.mark.parametrize(("width", "height"), [(31, 7), (641, 481), (5000, 300)])
def test_any_size_of_the_first_picture_makes_a_video(tmp_path: Path, width: int, height: int) -> None:
    """Sides that are odd, tiny or too long for a video are not what stops it."""
    recorded = Recorded()
    recorded.frame(0, "A", image=picture(0, width_px=width, height_px=height))
    (file,), _ = exported(recorded, "mp4", tmp_path / "w.mp4")
    ((_, shown),) = read_back(file)
    assert shown.shape[0] % 2 == shown.shape[1] % 2 == 0
    assert max(shown.shape) <= 1920 + 100


def test_hostile_labels_and_boxes_are_drawn_or_left_out(tmp_path: Path) -> None:
    """Signs of any script, control signs, a megabyte of text, no size or far away: a frame each, and no error."""
    recorded = Recorded()
    boxes = ((), (5.0,), (5.0, 5.0), (5.0, 5.0) * 4, (1e300, -1e300, 7.0, 7.0, 9.0, 1e9))
    for n, label in enumerate(("漢字", "\u202eabc\x00\n", "😀" * 100, "x" * 100_000, "", "עברית")):
        recorded.frame(n, label, polygon=boxes[n % len(boxes)], candidates=(candidate(label, polygon=(3.0, 4.0)),))
    (file,), _ = exported(recorded, "mp4", tmp_path / "w.mp4")
    assert len(read_back(file)) == 6


def test_frames_that_were_sent_again_are_shown_once(tmp_path: Path) -> None:
    recorded = Recorded()
    ref = recorded.frame(0)
    recorded.reject(ref, recorded.capture(ref), "repeated")
    (file,), tally = exported(recorded, "mp4", tmp_path / "w.mp4")
    assert len(read_back(file)) == 1
    assert tally.notes["frames that were sent again"] == 1


def test_a_long_gap_is_cut_to_the_longest(tmp_path: Path) -> None:
    """A night without frames takes ten seconds of the video, or whatever was asked for; the times after it are true again."""
    recorded = Recorded()
    night_us = 8 * 3600 * 1_000_000
    for n, at_us in enumerate((0, 100_000, night_us, night_us + 250_000)):
        recorded.frame(n, captured_at_us=START_US + at_us)
    (file,), _ = exported(recorded, "mp4", tmp_path / "w.mp4", longest_gap_ms=3000)
    assert [at for at, _ in read_back(file)] == [0, 100, 3100, 3350]


def test_times_only_grow_whatever_the_devices_clock_does() -> None:
    """Late frames follow at once, a clock that is set back or runs away takes what comes after it along."""

    def times(*captured_ms: int, longest_ms: int = 1000) -> list[int]:
        of_video = Times(longest_ms)
        return [of_video.next_ms(at * 1000)[0] for at in captured_ms]

    assert times(0, 100, 50, 150) == [0, 100, 101, 150]
    assert times(0, 100, 100, 100, 110) == [0, 100, 101, 102, 110]
    assert times(50_000, 50_100, 0, 100, 200) == [0, 100, 101, 201, 301]
    assert times(0, 10**12, 10**12 + 40, 80, 120) == [0, 1000, 1040, 1041, 1081]
    assert times(0, 90_000, longest_ms=0) == [0, 90_000]
    assert times(-(2**62) // 1000, 2**62 // 1000) == [0, 1000]


def test_the_video_says_what_it_is_of(tmp_path: Path) -> None:
    recorded = a_run()
    (file, _), _ = exported(recorded, "mp4", tmp_path / "v", Window(from_us=START_US))
    with av.open(str(file)) as container:
        about = json.loads(container.metadata["comment"])
    assert (about["source"], about["devices"], about["from"]) == ("a test's log", "gate-1", "2026-09-21T14:13:20.000000Z")


def test_more_devices_than_are_open_at_once_all_get_their_frames(tmp_path: Path) -> None:
    """Nine devices are written in turns, none twice."""
    recorded = Recorded()
    for n in range(2):
        for device in range(9):
            recorded.frame(n, device=f"gate-{device}")
    files, tally = exported(recorded, "mp4", tmp_path / "v")
    assert [len(read_back(file)) for file in files] == [2] * 9
    assert tally.records == 18


def test_one_file_cannot_hold_two_devices(tmp_path: Path) -> None:
    """It says so before anything is written, and one device alone is fine."""
    with pytest.raises(ConfigurationError, match="one video, and the window has 2 devices"):
        exported(a_run(), "mp4", tmp_path / "w.mp4")
    assert list(tmp_path.iterdir()) == []
    (file,), _ = exported(a_run(), "mp4", tmp_path / "w.mp4", Window(devices=frozenset({"gate-2"})))
    assert len(read_back(file)) == 3


def test_a_devices_name_never_leaves_the_folder() -> None:
    """Whatever a device is called, its file lies in the folder, and two devices have two files."""
    names = ["../../etc/passwd", "..", ".", "", "a/b", "a%2Fb", "\x00", "a" * 300, "a" * 299 + "b", "漢字", "gate-1"]
    files = [file_name(name) for name in names]
    assert all("/" not in file and "\x00" not in file and file.strip(".") and len(file) < 200 for file in files)
    assert not any(file.startswith("..") for file in files)
    assert len(set(files)) == len(files)
