"""The encoder worker with clocks around its steps (`benchmarks.probes`)."""

from __future__ import annotations

import engine.container.writer
import workers.encoder
from benchmarks.probes import Probes
from engine.container.partfile import HeaderCopies, PartFile
from engine.container.payload import PayloadWriter
from ipc.ring import RingReader
from ipc.worker import leave
from workers.codecs.convert import Converter
from workers.codecs.encoders import VideoEncoder
from workers.disk import DiskThread
from workers.pieces import Pieces

STEPS = (
    (RingReader, "read", "ring"),
    (RingReader, "wait", "wait"),
    (RingReader, "release", "ring"),
    (RingReader, "commit", "ring"),
    (VideoEncoder, "encode", "encode"),
    (VideoEncoder, "fragment", "mux"),
    (Pieces, "write", "mux"),
    (engine.container.writer, "pack_fragment", "mux"),
    (engine.container.writer, "pack_event", "mux"),
    (engine.container.writer, "require_boxes", "mux"),
    (PayloadWriter, "update", "seal"),
    (PayloadWriter, "finalize", "seal"),
    (HeaderCopies, "write_older", "seal"),
    (PartFile, "write", "write"),
    (PartFile, "sync", "sync"),
    (DiskThread, "_write", "write"),
)

ENCODING = ("encode",)

if __name__ == "__main__":
    probes = Probes("encoder")
    probes.around(Converter, "convert", "convert", frame=True)
    for owner, name, step in STEPS:
        if probes.fine or step in ENCODING:
            probes.around(owner, name, step)
    code = workers.encoder.main()
    probes.save()
    leave(code)
