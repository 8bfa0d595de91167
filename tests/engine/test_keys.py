"""Key files, passwords and pairs: what is read, what is refused, and that nothing leaks."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519

from engine import key_files
from engine.container.core import new_core
from engine.container.header import Header, new_header, open_header
from engine.container.recipients import (
    KeyFileRecipient,
    KeyFileSecret,
    PasswordRecipient,
    PasswordSecret,
    PrivateKeySecret,
    PublicKeyRecipient,
    key_file_id,
    public_key_id,
)
from engine.keys import (
    find_key_id,
    new_key_file,
    new_key_pair,
    password_recipient,
    read_key_file,
    read_password,
    read_private_key,
    read_public_key,
    recipients_from,
    secret_from,
)
from ipc.errors import ConfigError, KeyFileError, SealrecError

linux_modes = pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX files")
CORE = new_core(recording_id=b"r" * 16, part_index=0, created_unix_ms=1)


def private_file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    private, public = tmp_path / "archive.key", tmp_path / "archive.pub"
    new_key_pair(private, public)
    return private, public


# Creating


@linux_modes
def test_a_new_key_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask, a key file is created with mode 0600, as 64 hex digits and a newline."""
    path = tmp_path / "room.key"
    before = os.umask(0)
    try:
        key_id = new_key_file(path)
    finally:
        os.umask(before)
    content = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (len(content), content[-1:]) == (65, b"\n")
    assert read_key_file(path) == bytes.fromhex(content.decode())
    assert key_id == key_file_id(read_key_file(path))


@linux_modes
def test_a_new_pair_has_one_private_and_one_public_half(pair: tuple[Path, Path]) -> None:
    """The private PEM is PKCS8 with mode 0600, the public one SubjectPublicKeyInfo for everyone."""
    private, public = pair
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert private.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----")
    loaded = x25519.X25519PrivateKey.from_private_bytes(read_private_key(private))
    assert loaded.public_key().public_bytes_raw() == read_public_key(public)


def test_new_keys_differ(tmp_path: Path) -> None:
    """No two key files and no two pairs are the same."""
    ids = [new_key_file(tmp_path / f"{n}.key") for n in range(3)]
    ids += [new_key_pair(tmp_path / f"{n}.private", tmp_path / f"{n}.public") for n in range(3)]
    assert len(set(ids)) == 6
    assert ids[3] == public_key_id(read_public_key(tmp_path / "0.public"))


def test_an_existing_key_is_never_overwritten(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    """A name that is taken is refused, by file, directory or dangling link, and left as it was."""
    private, public = pair
    before = private.read_bytes(), public.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for path in (private, public, tmp_path, link):
        with pytest.raises(KeyFileError):
            new_key_file(path)
        with pytest.raises(KeyFileError):
            new_key_pair(path, tmp_path / "unused.pub")
    assert (private.read_bytes(), public.read_bytes()) == before
    assert not (tmp_path / "unused.pub").exists()
    assert not (tmp_path / "nowhere").exists()


def test_half_a_pair_is_never_left(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    """When the public half cannot be made, the private half is taken back."""
    new_private = tmp_path / "second.key"
    with pytest.raises(KeyFileError):
        new_key_pair(new_private, pair[1])
    assert not new_private.exists()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """A key that cannot be created says where it was to go."""
    with pytest.raises(KeyFileError, match="nowhere"):
        new_key_file(tmp_path / "nowhere" / "room.key")


# Reading secrets


@linux_modes
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666, 0o777])
@pytest.mark.parametrize("read", [read_key_file, read_password, read_private_key])
def test_a_looser_file_is_refused(
    read: Callable[[Path], object], mode: int, tmp_path: Path
) -> None:
    """A secret that others may open is refused, with the command that repairs it."""
    path = private_file(tmp_path / "secret", b"5" * 64 + b"\n")
    path.chmod(mode)
    with pytest.raises(KeyFileError) as refusal:
        read(path)
    assert f"chmod 600 {path}" in str(refusal.value)
    assert refusal.value.exit_code == 2


@linux_modes
@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_file_for_its_owner_alone_is_read(mode: int, tmp_path: Path) -> None:
    """Read-only and executable owner modes are as private as 0600."""
    path = private_file(tmp_path / "secret", b"5" * 64 + b"\n")
    path.chmod(mode)
    assert read_key_file(path) == b"\x55" * 32


@linux_modes
def test_a_link_is_judged_by_its_target(tmp_path: Path) -> None:
    """A link to a loose file is refused, one to a private file is followed."""
    target = private_file(tmp_path / "secret", b"5" * 64 + b"\n")
    link = tmp_path / "link"
    link.symlink_to(target)
    assert read_key_file(link) == b"\x55" * 32
    target.chmod(0o644)
    with pytest.raises(KeyFileError):
        read_key_file(link)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"", b"\nanother line\n"])
@pytest.mark.parametrize("digits", [b"0123456789abcdef" * 4, b"0123456789ABCDEF" * 4])
def test_a_key_file_is_64_hex_digits(digits: bytes, ending: bytes, tmp_path: Path) -> None:
    """Digits of either case and any line end give the 32 bytes; only the first line counts."""
    path = private_file(tmp_path / "room.key", digits + ending)
    assert read_key_file(path) == bytes.fromhex(digits.decode())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"5" * 63 + b"\n",
        b"5" * 65 + b"\n",
        b" " + b"5" * 64,
        b"5" * 64 + b" ",
        b"g" * 64,
        b"\n" + b"5" * 64,
        b"5" * 5000,
        bytes(32),
    ],
)
def test_another_content_is_no_key_file(content: bytes, tmp_path: Path) -> None:
    """Anything but 64 hex digits on the first line is refused, and never shown."""
    path = private_file(tmp_path / "room.key", content)
    with pytest.raises(KeyFileError) as refusal:
        read_key_file(path)
    assert "55555" not in str(refusal.value)


@pytest.mark.parametrize("read", [read_key_file, read_password, read_private_key, read_public_key])
def test_what_is_no_file_is_refused(read: Callable[[Path], object], tmp_path: Path) -> None:
    """A missing file, a directory and a named pipe without a writer are refused at once."""
    places = [tmp_path / "missing", tmp_path]
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe", 0o600)
        places.append(tmp_path / "pipe")
    for place in places:
        with pytest.raises(KeyFileError, match=place.name):
            read(place)


# Passwords


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"correct horse\n", "correct horse"),
        (b"correct horse", "correct horse"),
        (b"correct horse\r\n", "correct horse"),
        (b" spaces count \nsecond line", " spaces count "),
        (b"\xef\xbb\xbfcorrect horse\r\n", "correct horse"),
        ("Gru\u0308ße\n".encode(), "Grüße"),
        (b"x" * 1024 + b"\n", "x" * 1024),
    ],
)
def test_a_password_is_the_first_line_in_nfkc(
    content: bytes, password: str, tmp_path: Path
) -> None:
    """Line ends and a byte order mark do not belong to it; spaces do; NFKC is applied."""
    assert read_password(private_file(tmp_path / "pw", content)) == password


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"\r\n", b"   \n", b"\nsecret", "\u3000\n".encode(), b"caf\xe9\n", b"s" * 1025],
)
def test_an_unusable_password_file_is_refused(content: bytes, tmp_path: Path) -> None:
    """Empty, blank, too long or not UTF-8: refused, without showing what stands there."""
    path = private_file(tmp_path / "pw", content)
    with pytest.raises(KeyFileError) as refusal:
        read_password(path)
    for shown in (b"caf", b"sss", b"secret"):
        assert shown.decode() not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_secrets_come_from_an_inherited_descriptor(pair: tuple[Path, Path]) -> None:
    """fd:N gives a password, the next line the next one, then a key, then a PEM to the end."""
    reader, writer = os.pipe()
    try:
        os.write(writer, b"old one\nnew one\r\n" + b"5" * 64 + b"\n" + pair[0].read_bytes())
        os.close(writer)
        assert read_password(f"fd:{reader}") == "old one"
        assert read_password(f"fd:{reader}") == "new one"
        assert read_key_file(f"fd:{reader}") == b"\x55" * 32
        assert read_private_key(f"fd:{reader}") == read_private_key(pair[0])
        with pytest.raises(KeyFileError):
            read_password(f"fd:{reader}")
    finally:
        os.close(reader)


def test_a_descriptor_that_is_not_open_is_named() -> None:
    """fd:N of nothing open is a key-file error, not a crash."""
    with pytest.raises(KeyFileError, match="fd:987654"):
        read_password("fd:987654")


def test_a_password_can_be_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Source "prompt" asks on the terminal, and applies the same rules."""
    typed = iter(["Gru\u0308ße", "  "])
    monkeypatch.setattr(key_files.getpass, "getpass", lambda _prompt: next(typed))
    assert read_password("prompt") == "Grüße"
    with pytest.raises(KeyFileError):
        read_password("prompt")


def test_a_password_is_derived_once_with_600000_iterations() -> None:
    """A new password has its own salt and id, and the iteration count that the format asks for."""
    first, second = password_recipient("x"), password_recipient("x", label="spare")
    assert first.iterations == second.iterations == 600_000
    assert (first.salt, first.key_id, first.kek) != (second.salt, second.key_id, second.kek)
    assert second.label == "spare"


@pytest.mark.parametrize("iterations", [0, 100_000, 599_999, 10_000_001])
def test_a_weaker_password_is_not_written(iterations: int) -> None:
    """Fewer than 600,000 iterations are read, never written."""
    with pytest.raises(ConfigError):
        password_recipient("x", iterations=iterations)
    with pytest.raises(KeyFileError):
        password_recipient(" ")


# Pairs


def pem_of(key: ed25519.Ed25519PrivateKey | x25519.X25519PrivateKey, password: bytes) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def test_only_x25519_keys_are_read(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    """Another kind of key, an encrypted one, the other half and no PEM at all are refused."""
    signing, agreeing = ed25519.Ed25519PrivateKey.generate(), x25519.X25519PrivateKey.generate()
    signing_public = signing.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    private_file(tmp_path / "signing.key", pem_of(signing, b""))
    private_file(tmp_path / "encrypted.key", pem_of(agreeing, b"pw"))
    private_file(tmp_path / "signing.pub", signing_public)
    private_file(tmp_path / "hex.key", b"5" * 64)
    small_order = x25519.X25519PublicKey.from_public_bytes(bytes(32)).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    private_file(tmp_path / "small.pub", small_order)
    public = private_file(tmp_path / "public.pub", pair[1].read_bytes())
    for name in ("signing.key", "encrypted.key", "hex.key", public.name):
        with pytest.raises(KeyFileError, match=name):
            read_private_key(tmp_path / name)
    for name in ("signing.pub", "hex.key", "small.pub", pair[0].name):
        with pytest.raises(KeyFileError, match=name):
            read_public_key(tmp_path / name)


# Options


def test_options_become_recipients_and_secrets_that_fit(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    """What recipients_from makes a recording for, secret_from opens, for every kind."""
    new_key_file(tmp_path / "room.key")
    password = private_file(tmp_path / "pw", b"correct horse\n")
    recipients = recipients_from(
        key_files=[tmp_path / "room.key"], password_files=[password], public_keys=[pair[1]]
    )
    assert [type(r) for r in recipients] == [
        KeyFileRecipient,
        PasswordRecipient,
        PublicKeyRecipient,
    ]
    dek = os.urandom(32)
    raw = new_header(CORE, dek, recipients)
    secrets = [
        secret_from(key_file=tmp_path / "room.key"),
        secret_from(password_file=password),
        secret_from(private_key=pair[0]),
    ]
    assert [type(s) for s in secrets] == [KeyFileSecret, PasswordSecret, PrivateKeySecret]
    assert all(open_header(raw, raw, secret).dek == dek for secret in secrets)


def test_a_recording_without_a_key_is_refused(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    """No recipient, the same key twice, no secret and two secrets are usage errors."""
    new_key_file(tmp_path / "room.key")
    refused: list[Callable[[], object]] = [
        recipients_from,
        lambda: recipients_from(key_files=[tmp_path / "room.key"] * 2),
        lambda: recipients_from(public_keys=[pair[1]] * 2),
        secret_from,
        lambda: secret_from(key_file=tmp_path / "room.key", private_key=pair[0]),
    ]
    for call in refused:
        with pytest.raises(ConfigError):
            call()


def test_a_slot_is_found_by_label_or_by_the_start_of_its_id() -> None:
    """A whole label or four and more hex digits name one key; anything else is refused."""
    keks = [bytes([n]) * 32 for n in range(3)]
    recipients = [KeyFileRecipient(k, label) for k, label in zip(keks, "aab", strict=True)]
    slots = Header.parse(new_header(CORE, os.urandom(32), recipients)).slots
    ids = [key_file_id(kek) for kek in keks]
    assert find_key_id(slots, "b") == ids[2]
    assert find_key_id(slots, ids[0].hex()) == ids[0]
    assert find_key_id(slots, ids[1].hex()[:4].upper()) == ids[1]
    for text in ("a", "", "c", ids[0].hex()[:3], "00" * 16):
        with pytest.raises(ConfigError):
            find_key_id(slots, text)


def test_no_secret_is_in_an_error(tmp_path: Path) -> None:
    """Whatever is wrong with a secret file, the whole chain of its error shows none of it."""
    contents = [b"geheim" * 300, b"geheim\xff\n", b"geheim" * 10, b"-----BEGIN geheim-----"]
    for content in contents:
        path = private_file(tmp_path / "secret", content)
        for read in (read_key_file, read_password, read_private_key, read_public_key):
            try:
                read(path)
            except SealrecError as error:
                chain: BaseException | None = error
                while chain is not None:
                    assert "geheim" not in repr(chain) + str(chain)
                    chain = chain.__cause__ or chain.__context__
