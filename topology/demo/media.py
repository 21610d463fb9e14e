"""The demo's real pictures: six photographs of signs and a video of people walking, from Debian's package `opencv-doc`.

Owns the folder they lie in. Guarantees: a folder that is complete and unchanged is used as it stands, without network;
a broken one is fetched again; the SHA-256 of every file and the licence that the package states lie beside the files
(`MANIFEST.json`, `LICENSES`). None of it is part of this repository. `sources` reads the files next.
"""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from schemas.errors import ConfigurationError

PACKAGE = "opencv-doc"
PHOTOGRAPHS = tuple(f"scenetext{number:02d}.jpg" for number in range(1, 7))
VIDEO = "vtest.avi"
_COPYRIGHT = "copyright"
_WANTED = (*PHOTOGRAPHS, VIDEO, _COPYRIGHT)
_MANIFEST = "MANIFEST.json"
_LICENSES = "LICENSES"
_DOWNLOAD_LIMIT_S = 600.0
_SAY_EVERY_S = 3.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """Where the pictures are; `sha256` maps a file's name to its digest, sorted by name."""

    folder: Path
    photographs: tuple[Path, ...]
    video: Path
    licenses: Path
    sha256: dict[str, str]


def fetch_media(target: Path, *, say: Say, package: Path | None = None) -> Media:
    """Bring the demo's pictures into a folder, or use the ones that are there.

    Args:
        target: The folder; made when missing.
        say: Takes one line of progress at a time.
        package: An `opencv-doc` .deb already on this machine; without it apt downloads one (96 MB).
    Returns:
        The files, each verified against the digest recorded when it was extracted.
    Raises:
        ConfigurationError: apt or dpkg is missing or fails, or the package lacks a file; `do` says what to do.
    """
    kept = _kept(target)
    if kept is not None:
        return kept
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".fetch-") as scratch:
        deb = package if package is not None else _download(Path(scratch), say=say)
        say(f"extracting {len(PHOTOGRAPHS)} photographs and {VIDEO} from {deb.name}")
        extracted = _extract(deb, Path(scratch))
        _write_licenses(Path(scratch) / _LICENSES, deb=deb, copyright_text=extracted[_COPYRIGHT])
        for name in (*PHOTOGRAPHS, VIDEO):
            os.replace(extracted[name], target / name)
        os.replace(Path(scratch) / _LICENSES, target / _LICENSES)
        # The manifest goes last: a folder without one was cut off half way and is fetched again.
        _write_manifest(target, deb=deb, scratch=Path(scratch))
    media = _kept(target)
    if media is None:
        raise ConfigurationError(f"{target} changed while it was filled", do="run the command again, once at a time")
    say(f"pictures are in {target}; their licences in {media.licenses.name}")
    return media


def _kept(target: Path) -> Media | None:
    try:
        recorded = json.loads((target / _MANIFEST).read_text())["sha256"]
        actual = {name: _sha256(target / name) for name in sorted((*PHOTOGRAPHS, VIDEO, _LICENSES))}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if recorded != actual:
        return None
    return Media(
        folder=target,
        photographs=tuple(target / name for name in PHOTOGRAPHS),
        video=target / VIDEO,
        licenses=target / _LICENSES,
        sha256=actual,
    )


def _download(scratch: Path, *, say: Say) -> Path:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise ConfigurationError(
                f"{tool} is not on this machine, so the demo's pictures cannot be fetched",
                do=f"fetch the .deb of Debian's {PACKAGE} elsewhere and pass its path as `package`",
            )
    say(f"downloading Debian's {PACKAGE} (96 MB)")
    failure = _apt_download(scratch, say=say)
    if failure and os.geteuid() == 0:
        say("apt does not know the package yet: refreshing its lists")
        subprocess.run(["apt-get", "update", "-q"], capture_output=True, timeout=_DOWNLOAD_LIMIT_S, check=False)
        failure = _apt_download(scratch, say=say)
    found = sorted(scratch.glob(f"{PACKAGE}_*.deb"))
    if failure or not found:
        raise ConfigurationError(
            f"apt-get download {PACKAGE} failed: {failure or 'it left no file'}",
            do="run `apt-get update` as root, check the network, and try again",
        )
    return found[0]


def _apt_download(scratch: Path, *, say: Say) -> str:
    """What apt complained about, or an empty string."""
    log = scratch / "apt.log"
    with log.open("wb") as sink:
        apt = subprocess.Popen(["apt-get", "download", "-q", PACKAGE], cwd=scratch, stdout=sink, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + _DOWNLOAD_LIMIT_S
        while apt.poll() is None:
            if time.monotonic() > deadline:
                apt.kill()
                apt.wait()
                return f"no end after {_DOWNLOAD_LIMIT_S:.0f} s"
            try:
                apt.wait(timeout=_SAY_EVERY_S)
            except subprocess.TimeoutExpired:
                # apt writes under another name until it is done.
                here = sum(part.stat().st_size for part in scratch.glob(f"{PACKAGE}*") if part.exists())
                say(f"  {here / 1e6:.0f} of 96 MB")
    return "" if apt.returncode == 0 else _last_line(log.read_text(errors="replace"))


def _extract(deb: Path, scratch: Path) -> dict[str, Path]:
    """Take the wanted files out of the package's tar stream; some releases of the package gzip them."""
    extracted: dict[str, Path] = {}
    try:
        unpack = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE)
    except FileNotFoundError as missing:
        raise ConfigurationError("dpkg-deb is not on this machine", do="install Debian's package dpkg") from missing
    with unpack:
        assert unpack.stdout is not None
        try:
            with tarfile.open(fileobj=unpack.stdout, mode="r|") as members:
                for member in members:
                    name = PurePosixPath(member.name).name.removesuffix(".gz")
                    stream = members.extractfile(member) if name in _WANTED and member.isfile() else None
                    if stream is None or name in extracted:
                        continue
                    content = stream.read()
                    kept = scratch / name
                    kept.write_bytes(gzip.decompress(content) if member.name.endswith(".gz") else content)
                    extracted[name] = kept
        except (tarfile.TarError, gzip.BadGzipFile) as broken:
            raise ConfigurationError(f"{deb.name} is not a readable package: {broken}", do="fetch it again") from broken
    missing_names = [name for name in _WANTED if name not in extracted]
    if missing_names:
        raise ConfigurationError(f"{deb.name} holds no {', '.join(missing_names)}", do="take Debian's opencv-doc 4.6 or newer")
    return extracted


def _write_licenses(path: Path, *, deb: Path, copyright_text: Path) -> None:
    path.write_text(
        f"The photographs {PHOTOGRAPHS[0]} to {PHOTOGRAPHS[-1]} (opencv_contrib, modules/text/samples) and {VIDEO}\n"
        f"(opencv, samples/data) come from Debian's package {deb.name}, unchanged. The package\n"
        "names no separate terms for them: they fall under its paragraph `Files: *`, Apache-2.0 and BSD-3-Clause.\n"
        "It does not name who took them. By its place, size and 795 frames the video looks like view 1 of sequence\n"
        "S2.L1 of PETS 2009, University of Reading, which asks to be acknowledged as the source; that is inferred,\n"
        "stated by nobody in the package. Check before you publish pictures made from these files.\n"
        "The package's whole copyright file follows.\n\n" + "-" * 100 + "\n\n" + copyright_text.read_text(errors="replace"),
    )


def _write_manifest(target: Path, *, deb: Path, scratch: Path) -> None:
    digests = {name: _sha256(target / name) for name in sorted((*PHOTOGRAPHS, VIDEO, _LICENSES))}
    draft = scratch / _MANIFEST
    record = {"package": deb.name, "package_sha256": _sha256(deb), "sha256": digests}
    draft.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    os.replace(draft, target / _MANIFEST)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
