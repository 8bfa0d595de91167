"""What the report says in fixed words: of classes, states and verdicts, and what rests on what."""

from __future__ import annotations

from typing import Final

from ipc.frame import LossClass

__all__ = ["AUTHENTIC", "FILES", "REASONS", "RESTS", "STATES", "VERDICTS"]

REASONS: Final = {
    LossClass.CAMERA_GAP: "The camera skipped them: no picture of them ever came.",
    LossClass.INCOMPLETE: "They came damaged from the camera, and are kept out for that reason.",
    LossClass.RING_FULL: "The encoder was too slow, and the memory before it was full.",
    LossClass.ENCODER_LOST: "The encoding process ended before they had reached the disk.",
    LossClass.ENCODE_ERROR: "The encoder could not encode them.",
    LossClass.WRITE_ERROR: "The disk did not take them.",
    LossClass.PAUSED: "The recording was paused.",
}
STATES: Final = {
    "sealed": "sealed: closed by the recorder at its end",
    "recovered": "recovered: interrupted, and closed later with all that had reached the disk",
    "incomplete": "incomplete: never closed; its whole fragments are here",
    "corrupt": "corrupt: changed or damaged; what is intact before that is here",
    "wrong-key": "not opened by the key that was given; nothing of it is here",
}
AUTHENTIC: Final = {
    "sealed": "holds",
    "recovered": "holds",
    "incomplete": "holds, up to the last whole fragment",
    "corrupt": "DOES NOT HOLD",
    "wrong-key": "a part was not opened",
}
VERDICTS: Final = {
    "as-sealed": "this is the recording that was sealed, and all of it",
    "found": "this is the recording that was first found; nobody saw it sealed",
    "changed": "the same content under a newer header: its keys were changed",
    "unknown": "it knows nothing of a part",
    "missing": "it knows of a part that is not here",
    "other-audit": "it is an older copy of the catalog, or another one",
    "differs": "THIS IS NOT WHAT WAS SEALED",
}
RESTS: Final = (
    (
        "These files are the ones that were handed over, every byte.",
        "The signature over manifest.json (manifest.sig), checked with the signer's public key "
        "from the signer's own hand. VERIFY.txt says how.",
    ),
    (
        "The pictures and tables are those that the recorder sealed.",
        "The word of the signer, who opened the sealed files with their key and checked them as "
        "said above. With the sealed files (their SHA-256 is above) and their key anybody can "
        "check it again.",
    ),
    (
        "Nothing was left out, and nothing was sealed again by whoever holds a key of the "
        "recording, be it a public one.",
        "The catalog's audit, if the table above says that it holds; without a catalog, the word "
        "of the signer.",
    ),
    ("Times in the recording, and time between frames.", "The camera's clock."),
    ("Time of day.", "The clock of the recording computer, as it was set then."),
    ("When this package was made.", "The clock of the signer's computer."),
    ("Subject, operator, marks and other words.", "Whoever typed them."),
)
FILES: Final = (
    ("VERIFY.txt", "how to check this package without sealrec"),
    ("report.html, report.pdf", "this report"),
    ("video.mp4", "the pictures as they were recorded, not encoded again; marks are chapters"),
    ("frames.csv", "each picture of the video: id, times, part"),
    ("losses.csv", "each run of frames that is not in the recording, with its reason"),
    ("ledger.json", "the balance: every id in its class"),
    ("marks.json, marks.vtt", "what was marked while recording"),
    ("events.json", "what the recorder noted, and stretches without a picture"),
    ("audit.json", "the catalog's audit of this recording, and whether its chain holds"),
    ("recording.json", "the sealed files, and what was recorded with what"),
    ("verification.json", "the result of checking the sealed files"),
    ("software.json", "versions"),
    ("manifest.json, manifest.sig", "the list of all files with their SHA-256, and its signature"),
    ("public.pem", "the signer's public key, to be compared with the one you were given"),
)
