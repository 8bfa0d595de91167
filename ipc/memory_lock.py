"""Keep a key out of the swap file, where the system allows it.

Best effort: it pins the pages of one bytes object, of which Python and the libraries may hold
copies elsewhere; only encrypted swap is more. The Windows branch is type-checked; it was never run.
"""

from __future__ import annotations

import ctypes
import sys

if sys.platform == "win32":
    from ipc import winapi

__all__ = ["lock_in_memory"]


def lock_in_memory(secret: bytes) -> bool:
    """Pin the memory pages of a key for as long as the process lives (mlock, VirtualLock).

    Args:
        secret: A bytes object that the caller keeps.

    Returns:
        False where the system does not allow it (``ulimit -l``); nothing else is different then.
    """
    if not secret:
        return True
    # A c_char_p made from bytes points into the object itself.
    address = ctypes.cast(ctypes.c_char_p(secret), ctypes.c_void_p)
    size_bytes = ctypes.c_size_t(len(secret))
    if sys.platform == "win32":
        return bool(winapi.kernel32.VirtualLock(address, size_bytes))
    return bool(ctypes.CDLL(None).mlock(address, size_bytes) == 0)
