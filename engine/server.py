"""`sealrec serve`: the supervisor behind msgpack on stdin and stdout (PROTOCOL.md).

The protocol is moved to private descriptors first, so nothing that prints can write into it. When
the controller's pipe closes, or sends what cannot be framed, a running recording is stopped, sealed
and the process leaves.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from engine import software
from engine.catalog.place import CatalogPlace
from engine.key_files import PROMPT
from engine.supervisor import ControllerGone, Outgoing, Supervisor
from ipc import logs, osdep
from ipc.channel import Channel
from ipc.errors import ChannelError, FrameTooLarge, KeyFileError, PeerDied, ProtocolError
from ipc.handover import RingOffers
from ipc.messages import Failure, FromController, Hello, Message, Reply, SaveStill, StartRecording

__all__ = ["serve"]

JUNK_LIMIT_BYTES = 256 << 20
READ_BYTES = 1 << 16
LEAVE_S = 0.5


def serve(
    read_fd: int = 0,
    write_fd: int = 1,
    *,
    catalog: CatalogPlace | None = None,
    observer_fd: int | None = None,
) -> int:
    """Serve one controller until it leaves; returns the exit code.

    Args:
        read_fd: Where the protocol comes from.
        write_fd: Where it goes to.
        catalog: Told what happens.
        observer_fd: The socket on which a controller takes the frame ring's memory (handover.py).

    Raises:
        ConfigError: it is no such socket.
    """
    offers = RingOffers(observer_fd)
    read, write = os.dup(read_fd), os.dup(write_fd)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    logs.secure_standard_streams()
    logs.configure("engine")
    osdep.forbid_core_dumps()
    channel: Channel[Message] = Channel(read, write, FromController)
    greeted, junk = threading.Event(), threading.Event()

    def tell(message: Outgoing) -> None:
        if greeted.is_set():  # the first message of each side is its hello
            channel.send_quietly(message)

    supervisor = Supervisor(tell, catalog, offers)
    reader = threading.Thread(
        target=_read,
        args=(channel, read, supervisor, greeted, junk),
        name="controller",
        daemon=True,
    )
    reader.start()
    supervisor.run()
    channel.close()
    offers.close()
    if junk.is_set():
        reader.join(LEAVE_S)  # so that a peer that still writes comes to read the answer
    logs.flush(LEAVE_S)
    return 0


def _read(
    channel: Channel[Message],
    fd: int,
    supervisor: Supervisor,
    greeted: threading.Event,
    junk: threading.Event,
) -> None:
    """Pass the controller's requests on until its end; ``junk`` says that it was no clean one."""
    try:
        channel.receive_hello()
        channel.greet("engine", software.NAME_AND_VERSION)
        greeted.set()
        while True:
            try:
                message = channel.receive()
            except (PeerDied, FrameTooLarge):
                raise
            except ProtocolError as error:
                channel.send_quietly(_failure(error))
                continue
            _pass_on(message, channel, supervisor)
            # A password may be in it, and the next message may be hours away.
            del message
    except PeerDied:
        pass
    except ChannelError as error:
        channel.send_quietly(_failure(error))
        junk.set()
        supervisor.submit(ControllerGone())
        _discard(fd)
    finally:
        supervisor.submit(ControllerGone())


def _pass_on(message: Message, channel: Channel[Message], supervisor: Supervisor) -> None:
    if isinstance(message, StartRecording | SaveStill):
        if _asks_a_person(message.config):
            channel.send_quietly(_nobody_to_ask(message.call))
            return
        # A treatment must not wait for a name: the next free one is taken and reported.
        config = {"next_free_name": True, **message.config}
        message = type(message)(message.call, config)
    if not isinstance(message, Hello):
        supervisor.submit(message)


def _asks_a_person(config: dict[str, Any]) -> bool:
    """Whether a password is to be typed: a terminal of the controller's is none of the engine's."""
    keys = config.get("keys")
    asked = ("password_file", PROMPT)
    given = [key for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []
    return any((key.get("kind"), key.get("value")) == asked for key in given)


def _nobody_to_ask(call: int) -> Reply:
    error = KeyFileError(
        "The engine has nobody to ask for a password.", hint="Send the password, or name a file."
    )
    fields = {"code": error.code, "message": error.message, "hint": error.hint}
    return Reply(call=call, ok=False, error=fields)


def _failure(error: ChannelError) -> Failure:
    return Failure(code=error.code, message=error.message, hint=error.hint)


def _discard(fd: int) -> None:
    """Read on, keeping nothing, until the peer's end."""
    left = JUNK_LIMIT_BYTES
    while left > 0:
        try:
            data = os.read(fd, READ_BYTES)
        except OSError:
            return
        if not data:
            return
        left -= len(data)
