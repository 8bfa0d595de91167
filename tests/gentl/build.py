"""Builds the simulated camera: a GenTL producer (.cti) from the C files beside this one.

Not a test. Needs a C compiler on Linux; nothing is downloaded and no foreign header is used.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = [
    "PRODUCER_NAME",
    "BuildError",
    "build_producer",
    "find_compiler",
    "sanitizer_environment",
    "write_settings",
]

PRODUCER_NAME = "sealrec_sim.cti"
SOURCES = Path(__file__).parent
FLAGS = (
    "-std=c11",
    "-D_GNU_SOURCE",
    "-O2",
    "-g",
    "-Wall",
    "-Wextra",
    "-fPIC",
    "-fvisibility=hidden",
    "-pthread",
)
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover", "-fno-omit-frame-pointer")

SETTINGS = """<?xml version="1.0" standalone="no"?>
<Settings>
    <Logging><Level>{level}</Level><Sinks>{sink}</Sinks></Logging>
    <TlLoading>
        <CtiPaths><Path required="true">{directory}</Path></CtiPaths>
        <TlRule vendor-type="*" interface-type="*" rule="allow"/>
        <InterfacePollingPeriod>{polling_ms}</InterfacePollingPeriod>
        <DevicePollingPeriod>{polling_ms}</DevicePollingPeriod>
    </TlLoading>
</Settings>
"""


class BuildError(Exception):
    """The compiler refused the producer; the message is the compiler's."""


def find_compiler() -> str | None:
    """Path of the C compiler ($CC, cc, gcc or clang), or None."""
    candidates = (os.environ.get("CC"), "cc", "gcc", "clang")
    return next((found for name in candidates if name and (found := shutil.which(name))), None)


def sanitizer_environment() -> dict[str, str]:
    """What a process needs to load a producer built with ``SEALREC_SIM_SANITIZE`` set.

    AddressSanitizer has to come first, and libstdc++ with it, because VmbC throws. Leaks are not
    looked for: CPython and VmbC keep much until the end.
    """
    if not os.environ.get("SEALREC_SIM_SANITIZE"):
        return {}
    libraries = [_library("libasan.so"), _library("libstdc++.so")]
    options = "detect_leaks=0:exitcode=99"
    return {"LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": options}


def _library(name: str) -> str:
    asked = [find_compiler() or "cc", f"-print-file-name={name}"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def build_producer(directory: Path) -> Path:
    """Compile the producer, with AddressSanitizer if ``SEALREC_SIM_SANITIZE`` is set.

    Args:
        directory: Where the .cti goes; it must exist.

    Returns:
        Path of the .cti.

    Raises:
        BuildError: No compiler, not Linux, or the compiler said no.
    """
    compiler = find_compiler()
    if compiler is None or sys.platform != "linux":
        raise BuildError("the simulated camera needs Linux and a C compiler")
    (directory / "descriptions.h").write_text(_descriptions())
    cti = directory / PRODUCER_NAME
    sources = sorted(str(path) for path in SOURCES.glob("*.c"))
    sanitize = SANITIZE if os.environ.get("SEALREC_SIM_SANITIZE") else ()
    command = [compiler, *FLAGS, *sanitize, f"-I{directory}", "-shared", "-o", str(cti)]
    done = subprocess.run([*command, *sources], capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:  # a warning is an error here
        raise BuildError(done.stderr)
    return cti


def write_settings(
    path: Path, *, producer: Path, polling_ms: int = 200, log: Path | None = None
) -> None:
    """Write the VmbC.xml that makes VmbC load this producer, whatever its vendor, and no other.

    Args:
        path: Of the VmbC.xml, for ``VmbSystem.set_path_configuration``.
        producer: The .cti; VmbC is given its directory.
        polling_ms: How often VmbC looks for cameras; its own default is 2,000.
        log: File for VmbC's trace, which says why a transport layer or camera is refused.
    """
    sink = (
        f'<Sink type="File" file-path="{log}" format="AVT_Default" mode="Append"/>' if log else ""
    )
    level = "Trace" if log else "Error"
    directory = producer.parent
    path.write_text(
        SETTINGS.format(level=level, sink=sink, directory=directory, polling_ms=polling_ms)
    )


def _descriptions() -> str:
    """The XML files as C arrays: the producer serves them from its own memory."""
    lines = []
    for path in sorted(SOURCES.glob("*.xml")):
        text = re.sub(rb"\s+", b" ", re.sub(rb"<!--.*?-->", b"", path.read_bytes(), flags=re.S))
        values = ",".join(str(byte) for byte in text)
        lines.append(f"static const unsigned char {path.stem}_xml[] = {{{values}}};")
    return "\n".join(lines) + "\n"
