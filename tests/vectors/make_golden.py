"""Makes the golden files: run once per format version, never to make a failing test pass.

    python -m tests.vectors.make_golden

The files are random (salts, ivs), so a second run gives others; what they hold is fixed here.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from engine.container.header import new_core, new_header
from engine.container.reader import PartReader
from engine.container.recipients import (
    DataKeySecret,
    KeyFileRecipient,
    PasswordRecipient,
    PublicKeyRecipient,
    derive_kek,
)
from engine.container.recovery import recover_part
from engine.container.tables import (
    ClockPair,
    FragmentTable,
    FrameRow,
    Note,
    SealTable,
    SessionTable,
)
from engine.container.writer import PartWriter
from ipc.frame import Loss, LossClass
from tests.engine.media import made_up, made_up_init
from tests.vectors.file_vectors import GOLDEN

PASSWORD = "correct horse battery staple"
ITERATIONS = 100_000  # the least a reader accepts: this is a test, not an example


def main() -> None:
    """Write golden/*.srv1 and golden.json."""
    GOLDEN.mkdir(exist_ok=True)
    kek, private = os.urandom(32), X25519PrivateKey.generate()
    salt, password_id = os.urandom(32), os.urandom(16)
    recipients = [
        PasswordRecipient(
            derive_kek(PASSWORD, salt, ITERATIONS), salt, ITERATIONS, password_id, "password"
        ),
        KeyFileRecipient(kek, "key file"),
        PublicKeyRecipient(private.public_key().public_bytes_raw(), "public key"),
    ]
    facts = {
        "password": PASSWORD,
        "key_file": kek.hex(),
        "private_key": private.private_bytes_raw().hex(),
    }
    recording, other = os.urandom(16), os.urandom(16)
    dek, other_dek = os.urandom(32), os.urandom(32)
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        commitment = bytes(32)
        plans = [
            ("first", dek, recording, 0),
            ("second", dek, recording, 1),
            ("recovered", dek, recording, 2),
            ("other", other_dek, other, 0),
        ]
        for name, key, recording_id, index in plans:
            core = new_core(
                recording_id=recording_id,
                part_index=index,
                created_unix_ms=1_700_000_000_000 + index,
                previous_part=commitment if index else bytes(32),
            )
            path = scratch / name
            header = new_header(core, key, recipients)
            seal = SealTable(
                part={"written": 9},
                recording={"written": 9 * (index + 1)},
                parts=index + 1,
                last=name == "other",
            )
            commitment = _write(path, key, header, None if name == "recovered" else seal)
            raw = path.read_bytes()
            (GOLDEN / f"{name}.srv1").write_bytes(raw)
            facts[f"{name}_data_key"] = key.hex()
            with PartReader.open(path, DataKeySecret(key)) as part:
                facts[f"{name}_plaintext_sha256"] = hashlib.sha256(part.read()).hexdigest()
    (GOLDEN / "golden.json").write_text(json.dumps(facts, indent=2) + "\n")


def _write(path: Path, dek: bytes, header: bytes, seal: SealTable | None) -> bytes:
    with PartWriter.create(path, dek=dek, header=header) as writer:
        writer.write_init(
            made_up_init(),
            SessionTable(session={"id": "golden"}, software="sealrec", clock=ClockPair(1, 2)),
        )
        piece = made_up(0)
        writer.append(piece.table, piece.media, pts=piece.pts, duration=piece.duration)
        table = FragmentTable(
            frames=(FrameRow(8, 0, 1010, 9, 10, 24_000, 1),),
            lost=(Loss(LossClass.CAMERA_GAP, 0, 1008, 1009, 7, 8),),
            marks=(Note(11, "mark", "golden"),),
            events=(Note(12, "stall", "disk"),),
            clock=ClockPair(13, 14),
        )
        if seal is not None:
            writer.append(table, made_up(1).media, pts=24_000, duration=3_000)
            writer.seal(seal)
        commitment = writer.commitment
    if seal is None:
        recover_part(path.with_name(path.name + ".open"), DataKeySecret(dek))
    return commitment


if __name__ == "__main__":
    main()
