"""The demo's pictures: taken out of a real Debian package, kept, checked, and shown by three devices."""

import gzip
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from schemas.errors import ConfigurationError
from topology.demo.media import PHOTOGRAPHS, Media, fetch_media
from topology.demo.sources import gate_frames, photograph_frames, yard_frames

SIZES = ((600, 800), (960, 1280), (958, 1004), (868, 1280), (960, 1280), (480, 640))
VIDEO_FRAMES = 25

BuildPackage = Callable[..., Path]


@pytest.fixture(scope="module")
def build_package(tmp_path_factory: pytest.TempPathFactory) -> BuildPackage:
    """Makes a .deb laid out as Debian's, of pictures drawn here; `without` leaves a file out, `zipped` gzips one."""

    def build(*, without: str = "", zipped: str = "") -> Path:
        root = tmp_path_factory.mktemp("package")
        folder = root / "usr/share/doc/opencv-doc"
        (folder / "examples/text").mkdir(parents=True)
        (folder / "examples/data").mkdir()
        (folder / "copyright").write_text("Files: *\nLicense: Apache-2.0 AND BSD-3-Clause\n")
        rng = np.random.default_rng(5)
        for name, size in zip(PHOTOGRAPHS, SIZES, strict=True):
            cv2.imwrite(str(folder / "examples/text" / name), rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        video = cv2.VideoWriter(str(folder / "examples/data/vtest.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (768, 576))
        for number in range(VIDEO_FRAMES):
            video.write(np.full((576, 768, 3), number * 10, np.uint8))
        video.release()
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            if path.name == zipped:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            if path.name in (without, zipped):
                path.unlink()
        (root / "DEBIAN").mkdir()
        (root / "DEBIAN/control").write_text(
            "Package: opencv-doc\nVersion: 0\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: pictures\n"
        )
        deb = tmp_path_factory.mktemp("deb") / "opencv-doc_0_all.deb"
        subprocess.run(["dpkg-deb", "--build", "-z1", str(root), str(deb)], check=True, capture_output=True)
        return deb

    return build


@pytest.fixture(scope="module")
def media(build_package: BuildPackage, tmp_path_factory: pytest.TempPathFactory) -> Media:
    return fetch_media(tmp_path_factory.mktemp("pictures"), say=lambda line: None, package=build_package())


def test_fetching_takes_the_files_and_their_licence(media: Media) -> None:
    """All pictures are there, with digests, and the package's licence lies beside them."""
    assert [path.name for path in media.photographs] == list(PHOTOGRAPHS)
    assert all(path.is_file() for path in (*media.photographs, media.video))
    assert set(media.sha256) == {*PHOTOGRAPHS, "vtest.avi", "LICENSES"}
    assert "Apache-2.0 AND BSD-3-Clause" in media.licenses.read_text()
    assert sorted(path.name for path in media.folder.iterdir()) == sorted([*media.sha256, "MANIFEST.json"])


def test_a_second_fetch_needs_no_package(media: Media, tmp_path: Path) -> None:
    """A complete folder is used as it stands, and nothing is said."""
    said: list[str] = []
    assert fetch_media(media.folder, say=said.append, package=tmp_path / "gone.deb") == media
    assert said == []


@pytest.mark.parametrize("left", [b"cut off", None])
def test_a_changed_or_lost_file_is_fetched_again(build_package: BuildPackage, tmp_path: Path, left: bytes | None) -> None:
    """A picture that differs from its recorded digest does not stay, nor does a hole."""
    deb = build_package()
    first = fetch_media(tmp_path, say=lambda line: None, package=deb)
    whole = first.photographs[2].read_bytes()
    first.photographs[2].unlink()
    if left is not None:
        first.photographs[2].write_bytes(left)
    assert fetch_media(tmp_path, say=lambda line: None, package=deb) == first
    assert first.photographs[2].read_bytes() == whole


def test_gzipped_files_come_out_plain(build_package: BuildPackage, media: Media, tmp_path: Path) -> None:
    """A package that gzips the video gives the same video."""
    unzipped = fetch_media(tmp_path, say=lambda line: None, package=build_package(zipped="vtest.avi"))
    assert unzipped.sha256["vtest.avi"] == media.sha256["vtest.avi"]


def test_a_package_without_a_picture_is_named(build_package: BuildPackage, tmp_path: Path) -> None:
    """What is missing is in the message, and the folder is not taken for complete."""
    with pytest.raises(ConfigurationError, match=r"scenetext03\.jpg"):
        fetch_media(tmp_path, say=lambda line: None, package=build_package(without="scenetext03.jpg"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_package_is_refused(tmp_path: Path) -> None:
    """A broken download ends in an error with what to do."""
    broken = tmp_path / "opencv-doc_0_all.deb"
    broken.write_bytes(b"not a package")
    with pytest.raises(ConfigurationError) as refusal:
        fetch_media(tmp_path / "pictures", say=lambda line: None, package=broken)
    assert refusal.value.do


def test_without_apt_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is no Debian the user learns which package to bring."""
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(ConfigurationError, match="apt-get") as refusal:
        fetch_media(tmp_path / "pictures", say=lambda line: None)
    assert "opencv-doc" in refusal.value.do


def test_photographs_fit_and_repeat(media: Media) -> None:
    """As many as asked for, in turn, none with a side above 800 px, and in the photograph's shape."""
    frames = list(photograph_frames(media, count=8))
    sizes = [_size(frame.image_jpeg) for frame in frames]
    assert [frame.sequence for frame in frames] == list(range(8))
    assert sizes[:6] == [(600, 800), (600, 800), (763, 800), (542, 800), (600, 800), (480, 640)]
    assert [frame.image_jpeg for frame in frames[6:]] == [frame.image_jpeg for frame in frames[:2]]


@pytest.mark.parametrize(("count", "every", "expected"), [(3, 5, 3), (9, 10, 3), (0, 1, 0)])
def test_the_yard_shows_every_kth_frame(media: Media, count: int, every: int, expected: int) -> None:
    """The right frames of the video, at the time that they have in it, and no more than the video holds."""
    frames = list(yard_frames(media, count=count, every=every))
    assert len(frames) == expected
    assert [frame.captured_offset_us for frame in frames] == [100_000 * every * n for n in range(expected)]
    for n, frame in enumerate(frames):
        level = cv2.imdecode(np.frombuffer(frame.image_jpeg, np.uint8), cv2.IMREAD_COLOR).mean()
        assert abs(level - 10 * every * n) < 5


def test_a_broken_video_is_named(media: Media, tmp_path: Path) -> None:
    """A video that cannot be read is an error with its path, not an empty stream."""
    shutil.copytree(media.folder, tmp_path / "copy")
    (tmp_path / "copy/vtest.avi").write_bytes(b"not a video")
    broken = Media(
        folder=tmp_path / "copy",
        photographs=media.photographs,
        video=tmp_path / "copy/vtest.avi",
        licenses=media.licenses,
        sha256=media.sha256,
    )
    with pytest.raises(ConfigurationError, match=r"vtest\.avi"):
        list(yard_frames(broken, count=1))


def test_gate_frames_carry_their_truth(media: Media) -> None:
    """Each frame of the gate names its passage and holds what is true about it."""
    frames = list(gate_frames(media, seed=3, count=2, frames_per_passage=3))
    assert [frame.passage_id for frame in frames] == ["gate-3-000"] * 3 + ["gate-3-001"] * 3
    assert {frame.device_id for frame in frames} == {"gate-1"}
    for frame in frames:
        assert frame.truth is not None
        assert frame.truth.image_jpeg == frame.image_jpeg
        assert (frame.truth.sequence, frame.truth.passage_id) == (frame.sequence, frame.passage_id)


def _size(image_jpeg: bytes) -> tuple[int, int]:
    height, width = cv2.imdecode(np.frombuffer(image_jpeg, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    return height, width
