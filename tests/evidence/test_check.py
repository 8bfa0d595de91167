"""One changed byte anywhere in a package is found, and named by where it is."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.evidence import archive, manifest
from engine.evidence.archive import MANIFEST, NAMES, PUBLIC_KEY, SIGNATURE, VIDEO, Digest, Member
from engine.evidence.check import check
from engine.key_files import read_sign_key, read_verify_key
from ipc.errors import ConfigError
from tests.evidence.kit import Desk

BETWEEN = 7
"""Bytes of a member's content that are changed, besides its first and last."""
FIELDS = (*(0, 4, 6, 8, 10, 12, 14, 18, 22, 26, 28, 30), *range(31, 60))
ENTRY_FIELDS = (
    *(0, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 30, 32, 34, 36, 38, 42, 46),
    *range(47, 80),
)
"""Where the fields of a header begin, and its name."""
WHOLLY = ("VERIFY.txt", "manifest.sig", "video.mp4")
"""Members whose headers are changed in every byte."""


@pytest.fixture
def package(handed_over: Desk, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    path = tmp_path / "package.zip"
    path.write_bytes(handed_over.out.read_bytes())
    return path


@pytest.fixture
def key(handed_over: Desk) -> Ed25519PublicKey:
    return read_verify_key(handed_over.public_key)


def places(path: Path) -> Iterator[tuple[str, range]]:
    """What lies where, by the standard library's reading of the zip."""
    with zipfile.ZipFile(path) as found:
        infos = found.infolist()
        directory = found.start_dir
    ends = [info.header_offset for info in infos[1:]] + [directory]
    for info, end in zip(infos, ends, strict=True):
        begin = end - info.file_size
        yield f"the header of {info.filename}", range(info.header_offset, begin)
        yield info.filename, range(begin, end)
    for info in infos:
        size = 46 + len(info.filename)
        yield f"the directory entry of {info.filename}", range(directory, directory + size)
        directory += size
    yield "the end record", range(directory, path.stat().st_size)


def chosen(where: str, place: range) -> Iterator[int]:
    """A byte of each field of what is not content; of content the ends, and some between."""
    if where not in NAMES:
        name = where.rpartition(" ")[2]
        fields = FIELDS if where.startswith("the header") else ENTRY_FIELDS
        is_wholly = name in WHOLLY or name == "record"
        yield from place if is_wholly else (place[at] for at in fields if at < len(place))
        return
    step = max(1, len(place) // BETWEEN)
    yield from sorted({*place[::step], place[-1]})


@contextmanager
def changed(path: Path, offset: int, xor: int) -> Iterator[None]:
    """One byte of a file is another one for a while."""
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ xor]))
        yield
        file.seek(offset)
        file.write(bytes([byte]))


def test_the_package_is_whole(package: Path, key: Ed25519PublicKey) -> None:
    """By the signer's key, and without it as whole but of an unknown signer."""
    report = check(package, key)
    assert (report.changed, report.exit_code, report.stranger) == ((), 0, False)
    assert report.signer == report.expected == manifest.fingerprint(key)
    alone = check(package, None)
    assert (alone.whole, alone.exit_code, alone.expected) == (True, 0, "")


def test_every_changed_byte_is_found_and_named(package: Path, key: Ed25519PublicKey) -> None:
    """In each field of each header and directory entry, and all over each file."""
    total = 0
    for where, place in places(package):
        for offset in chosen(where, place):
            with changed(package, offset, 0x80 if offset % 2 else 0x01):
                report = check(package, key)
            assert report.exit_code == 4, (where, offset)
            assert [c.where for c in report.changed] == [where], offset - place.start
            total += 1
    assert total > 1000
    assert check(package, key).whole


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), xor=st.integers(1, 255), given_key=st.booleans())
def test_any_byte_any_change(
    package: Path, key: Ed25519PublicKey, at: float, xor: int, given_key: bool
) -> None:
    """Whatever it becomes, also without the signer's key at hand."""
    offset = int(at * package.stat().st_size)
    with changed(package, offset, xor):
        report = check(package, key if given_key else None)
    where = next(name for name, place in places(package) if offset in place)
    assert (report.exit_code, [c.where for c in report.changed]) == (4, [where])


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.floats(0, 1), size=st.integers(1, 5000), how=st.sampled_from(["cut", "insert", "cutout"])
)
def test_cut_and_grown(  # noqa: PLR0917
    package: Path, tmp_path: Path, key: Ed25519PublicKey, at: float, size: int, how: str
) -> None:
    """Truncated, with bytes inserted (before it, behind it, within) or taken out."""
    data = package.read_bytes()
    offset = int(at * len(data))
    changed = {
        "cut": data[:offset],
        "insert": data[:offset] + bytes(size) + data[offset:],
        "cutout": data[:offset] + data[offset + size :],
    }[how]
    if changed == data:
        return
    other = tmp_path / "other.zip"
    other.write_bytes(changed)
    report = check(other, key)
    assert (report.exit_code, report.whole) == (4, False)
    assert report.changed


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=4000), head=st.sampled_from([b"", b"PK\3\4", b"PK\5\6"]))
def test_no_package_at_all(tmp_path: Path, data: bytes, head: bytes) -> None:
    """Anything is looked at and refused."""
    path = tmp_path / "any.zip"
    path.write_bytes(head + data)
    report = check(path, None)
    assert (report.exit_code, report.whole) == (4, False)


def test_sizes_that_cannot_be(package: Path, key: Ed25519PublicKey) -> None:
    """Sizes of 4 GiB in every header and entry read nothing by themselves."""
    data = bytearray(package.read_bytes())
    with zipfile.ZipFile(package) as found:
        start = found.start_dir
        for info in found.infolist():
            data[info.header_offset + 18 : info.header_offset + 26] = b"\xff" * 8
            data[start + 20 : start + 28] = b"\xff" * 8
            start += 46 + len(info.filename)
    package.write_bytes(data)
    report = check(package, key)
    assert (report.exit_code, report.changed[0].where) == (4, NAMES[0])


def test_no_file_is_usage(tmp_path: Path) -> None:
    """What is not there is no damage."""
    with pytest.raises(ConfigError, match="cannot be read"):
        check(tmp_path / "none.zip", None)
    with pytest.raises(ConfigError, match="not a file"):
        check(tmp_path, None)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ConfigError, match="not a file"):
            check(tmp_path / "pipe", None)


# --- by somebody who knows the format -----------------------------------------------------------


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as found:
        return {name: found.read(name) for name in found.namelist()}


def built(path: Path, files: dict[str, bytes]) -> None:
    """A canonical zip of any contents: checksums and places are right."""
    members = [
        Member(name, io.BytesIO(files[name]), archive.digest_of(io.BytesIO(files[name])))
        for name in NAMES
    ]
    with path.open("wb") as file:
        archive.write(members, file, lambda _: None)


def signed(files: dict[str, bytes], key: Ed25519PrivateKey) -> dict[str, bytes]:
    """The same contents, signed by somebody."""
    files = files | {PUBLIC_KEY: manifest.as_pem(key.public_key())}
    old = manifest.parse(files[MANIFEST])
    digests = [archive.digest_of(io.BytesIO(files[name])) for name in manifest.LISTED]
    signer = manifest.fingerprint(key.public_key())
    text = manifest.render(
        manifest.Manifest(
            old.format, old.version, old.created, old.recording_id, signer, manifest.listed(digests)
        )
    )
    return files | {MANIFEST: text, SIGNATURE: key.sign(text)}


def test_what_is_built_is_the_same_bytes(package: Path) -> None:
    """The zip is canonical: the same contents are the same file."""
    before = package.read_bytes()
    built(package, contents(package))
    assert package.read_bytes() == before


@pytest.mark.parametrize("name", [*manifest.LISTED])
def test_a_file_replaced_with_its_checksums(
    package: Path, key: Ed25519PublicKey, name: str
) -> None:
    """What the zip says of itself counts for nothing against the signed list."""
    files = contents(package)
    built(package, files | {name: files[name] + b" "})
    report = check(package, key)
    assert (report.exit_code, [c.where for c in report.changed]) == (4, [name])


def test_signed_again_by_another(package: Path, key: Ed25519PublicKey) -> None:
    """Somebody who changes it and signs it anew makes a whole package of his own: exit code 5."""
    files = contents(package)
    built(package, signed(files | {VIDEO: b"another video"}, Ed25519PrivateKey.generate()))
    report = check(package, key)
    assert (report.whole, report.stranger, report.exit_code) == (True, True, 5)
    assert report.signer != report.expected
    assert check(package, None).exit_code == 0  # and that is why the key comes by another way


def test_another_key_in_the_package(
    package: Path, key: Ed25519PublicKey, handed_over: Desk
) -> None:
    """A package that carries another key than the one that signed it is not as it should be."""
    files = signed(contents(package), read_sign_key(handed_over.sign_key))
    stranger = manifest.as_pem(Ed25519PrivateKey.generate().public_key())
    built(package, files | {PUBLIC_KEY: stranger})
    assert [c.where for c in check(package, key).changed] == [PUBLIC_KEY]
    assert [c.where for c in check(package, None).changed] == [MANIFEST]


def test_signature_and_list_replaced(
    package: Path, key: Ed25519PublicKey, handed_over: Desk
) -> None:
    """A true signature of another list, or a list of other files, does not go with this package."""
    files, signer = contents(package), read_sign_key(handed_over.sign_key)
    other = signed(files | {"frames.csv": b"other"}, signer)
    built(package, files | {MANIFEST: other[MANIFEST], SIGNATURE: other[SIGNATURE]})
    assert [c.where for c in check(package, key).changed] == ["frames.csv"]
    built(package, files | {SIGNATURE: other[SIGNATURE]})
    assert [c.where for c in check(package, key).changed] == [MANIFEST]
    built(package, files | {SIGNATURE: files[SIGNATURE] + b"0"})
    assert [c.where for c in check(package, key).changed] == [MANIFEST]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"{}",
        lambda text: b"",
        lambda text: text.replace(b'"version": 1', b'"version": 2'),
        lambda text: text.replace(b"\n ", b"\n  ", 1),
        lambda text: text.replace(b"video.mp4", b"vide0.mp4"),
        lambda text: text + b" " * 70_000,
        lambda text: b"[" * 50_000,
    ],
)
def test_a_list_that_is_none(
    package: Path, key: Ed25519PublicKey, handed_over: Desk, change: object
) -> None:
    """Signed by the very key, and still no list of version 1 in its one spelling."""
    files = contents(package)
    text = change(files[MANIFEST])  # type: ignore[operator]
    signature = read_sign_key(handed_over.sign_key).sign(text)
    built(package, files | {MANIFEST: text, SIGNATURE: signature})
    report = check(package, key)
    assert (report.exit_code, [c.where for c in report.changed]) == (4, [MANIFEST])


# --- what only a large package has --------------------------------------------------------------


def test_more_than_four_gigabytes(unzip: str, tmp_path: Path) -> None:
    """Zip64, by the standard library and unzip; a hole stands for the video."""
    path, size = tmp_path / "large.zip", 5 << 30
    small = Digest(0, 0, hashlib.sha256().hexdigest())
    digests = [*[small] * (len(NAMES) - 1), Digest(size, 0x1234, "")]
    layout = archive.layout_of([digest.size_bytes for digest in digests])
    with path.open("wb") as file:
        for name, digest, offset in zip(NAMES, digests, layout.offsets, strict=True):
            file.seek(offset)
            file.write(archive.header(name, digest, large=layout.large))
        file.seek(layout.directory)
        file.write(b"".join(archive.directory(digests, layout)) + archive.tail(layout))
    assert archive.layout_in(path.stat().st_size) == (layout.directory, True)
    with zipfile.ZipFile(path) as found:
        assert tuple(info.filename for info in found.infolist()) == NAMES
        video = found.getinfo(VIDEO)
        assert (video.file_size, video.CRC, video.header_offset) == (
            size,
            0x1234,
            layout.offsets[-1],
        )
        assert found.read(NAMES[0]) == b""
    listing = subprocess.run([unzip, "-l", path], capture_output=True, text=True, check=True)
    assert str(size) in listing.stdout


def test_every_changed_byte_of_a_large_package(
    package: Path, key: Ed25519PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What zip64 adds is found and named as well; here it begins at the end of a small video."""
    files = contents(package)
    digests = [archive.digest_of(io.BytesIO(files[name])) for name in NAMES]
    sizes = [digest.size_bytes for digest in digests]
    monkeypatch.setattr(archive, "LARGE", archive.layout_of(sizes).directory)
    built(package, files)
    assert check(package, key).whole
    layout = archive.layout_of(sizes)
    entries = [len(entry) for entry in archive.directory(digests, layout)]
    end = layout.directory + sum(entries)
    places = {
        f"the header of {VIDEO}": range(layout.offsets[-1], layout.directory - sizes[-1]),
        f"the directory entry of {VIDEO}": range(end - entries[-1], end),
        "the end record": range(end, package.stat().st_size),
    }
    assert [len(place) for place in places.values()] == [59, 75, 98]
    for where, place in places.items():
        for offset in place:
            with changed(package, offset, 0x40):
                report = check(package, key)
            assert [c.where for c in report.changed] == [where], offset - place.start


@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_where_zip64_begins(beyond: int) -> None:
    """The size of the package alone says whether it is there."""
    sizes = [0] * len(NAMES)
    sizes[-1] = archive.LARGE - archive.layout_of(sizes).directory + beyond
    layout = archive.layout_of(sizes)
    assert layout.large == (beyond >= 0)
    digests = [Digest(size, 0, "") for size in sizes]
    end = b"".join(archive.directory(digests, layout)) + archive.tail(layout)
    assert archive.layout_in(layout.directory + len(end)) == (layout.directory, layout.large)


def test_the_checksum_is_the_zips() -> None:
    """CRC-32 as every zip program has it, whatever the pieces."""
    data = os.urandom(3 << 20)
    digest = archive.digest_of(io.BytesIO(data))
    assert (digest.size_bytes, digest.crc) == (len(data), zlib.crc32(data))
    assert digest.sha256 == hashlib.sha256(data).hexdigest()
