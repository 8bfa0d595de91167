"""Declarations of the Windows functions that the modules beside this one call; empty elsewhere.

Only names, argument types and structures: what is done with them, and what the other system does
instead, stands beside each other in those modules. Handles are passed as plain integers.
"""

from __future__ import annotations

import sys

__all__: list[str] = []

if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    __all__ += [
        "FILE_MAP_READ",
        "FILE_MAP_WRITE",
        "INVALID_HANDLE",
        "MEM_COMMIT",
        "PAGE_READWRITE",
        "SEC_RESERVE",
        "MemoryBasicInformation",
        "MemoryStatusEx",
        "Overlapped",
        "ProcessMemoryCountersEx",
        "SecurityAttributes",
        "advapi32",
        "close_handle",
        "duplicate_handle",
        "kernel32",
        "psapi",
        "user_sid",
    ]

    INVALID_HANDLE = 2**64 - 1
    PAGE_READWRITE = 0x04
    SEC_RESERVE = 0x04000000
    MEM_COMMIT = 0x1000
    FILE_MAP_WRITE = 0x2
    FILE_MAP_READ = 0x4
    PROCESS_DUP_HANDLE = 0x0040
    DUPLICATE_SAME_ACCESS = 0x2
    TOKEN_QUERY = 0x0008
    TOKEN_USER = 1

    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
    psapi = ctypes.WinDLL("psapi", use_last_error=True)

    class SecurityAttributes(ctypes.Structure):
        """SECURITY_ATTRIBUTES."""

        _fields_ = (
            ("length", wintypes.DWORD),
            ("descriptor", ctypes.c_void_p),
            ("inherit", wintypes.BOOL),
        )

    class MemoryStatusEx(ctypes.Structure):
        """MEMORYSTATUSEX."""

        _fields_ = (
            ("length", wintypes.DWORD),
            ("load_percent", wintypes.DWORD),
            ("total_physical", ctypes.c_uint64),
            ("free_physical", ctypes.c_uint64),
            ("total_commit", ctypes.c_uint64),
            ("free_commit", ctypes.c_uint64),
            ("total_virtual", ctypes.c_uint64),
            ("free_virtual", ctypes.c_uint64),
            ("free_extended", ctypes.c_uint64),
        )

    class MemoryBasicInformation(ctypes.Structure):
        """MEMORY_BASIC_INFORMATION of a 64-bit process."""

        _fields_ = (
            ("base", ctypes.c_void_p),
            ("allocation_base", ctypes.c_void_p),
            ("allocation_protect", wintypes.DWORD),
            ("partition", wintypes.WORD),
            ("region_size", ctypes.c_size_t),
            ("state", wintypes.DWORD),
            ("protect", wintypes.DWORD),
            ("kind", wintypes.DWORD),
        )

    class ProcessMemoryCountersEx(ctypes.Structure):
        """PROCESS_MEMORY_COUNTERS_EX."""

        _fields_ = (
            ("length", wintypes.DWORD),
            ("page_faults", wintypes.DWORD),
            ("peak_working_set", ctypes.c_size_t),
            ("working_set", ctypes.c_size_t),
            ("quota_peak_paged", ctypes.c_size_t),
            ("quota_paged", ctypes.c_size_t),
            ("quota_peak_nonpaged", ctypes.c_size_t),
            ("quota_nonpaged", ctypes.c_size_t),
            ("pagefile", ctypes.c_size_t),
            ("peak_pagefile", ctypes.c_size_t),
            ("private", ctypes.c_size_t),
        )

    class Overlapped(ctypes.Structure):
        """OVERLAPPED: the place in the file that a lock begins at."""

        _fields_ = (
            ("internal", ctypes.c_size_t),
            ("internal_high", ctypes.c_size_t),
            ("offset", wintypes.DWORD),
            ("offset_high", wintypes.DWORD),
            ("event", wintypes.HANDLE),
        )

    _HANDLE = wintypes.HANDLE
    _DWORD = wintypes.DWORD
    _BOOL = wintypes.BOOL
    _POINTER = ctypes.c_void_p

    kernel32.GetCurrentProcess.restype = _HANDLE
    kernel32.CloseHandle.argtypes = (_HANDLE,)
    kernel32.OpenProcess.argtypes = (_DWORD, _BOOL, _DWORD)
    kernel32.OpenProcess.restype = _HANDLE
    kernel32.DuplicateHandle.argtypes = (
        *(_HANDLE, _HANDLE, _HANDLE),
        *(ctypes.POINTER(_HANDLE), _DWORD, _BOOL, _DWORD),
    )
    kernel32.CreateFileMappingW.argtypes = (
        *(_HANDLE, _POINTER, _DWORD),
        *(_DWORD, _DWORD, wintypes.LPCWSTR),
    )
    kernel32.CreateFileMappingW.restype = _HANDLE
    kernel32.MapViewOfFile.argtypes = (_HANDLE, _DWORD, _DWORD, _DWORD, ctypes.c_size_t)
    kernel32.MapViewOfFile.restype = _POINTER
    kernel32.UnmapViewOfFile.argtypes = (_POINTER,)
    kernel32.VirtualAlloc.argtypes = (_POINTER, ctypes.c_size_t, _DWORD, _DWORD)
    kernel32.VirtualAlloc.restype = _POINTER
    kernel32.VirtualQuery.argtypes = (
        _POINTER,
        ctypes.POINTER(MemoryBasicInformation),
        ctypes.c_size_t,
    )
    kernel32.VirtualQuery.restype = ctypes.c_size_t
    kernel32.CreateEventW.argtypes = (_POINTER, _BOOL, _BOOL, wintypes.LPCWSTR)
    kernel32.CreateEventW.restype = _HANDLE
    kernel32.SetEvent.argtypes = (_HANDLE,)
    kernel32.WaitForSingleObject.argtypes = (_HANDLE, _DWORD)
    kernel32.GlobalMemoryStatusEx.argtypes = (ctypes.POINTER(MemoryStatusEx),)
    kernel32.SetPriorityClass.argtypes = (_HANDLE, _DWORD)
    kernel32.GetProcessHandleCount.argtypes = (_HANDLE, ctypes.POINTER(_DWORD))
    kernel32.LockFileEx.argtypes = (
        *(_HANDLE, _DWORD, _DWORD, _DWORD, _DWORD),
        ctypes.POINTER(Overlapped),
    )
    kernel32.CreateFileW.argtypes = (
        *(wintypes.LPCWSTR, _DWORD, _DWORD),
        *(ctypes.POINTER(SecurityAttributes), _DWORD, _DWORD, _HANDLE),
    )
    kernel32.CreateFileW.restype = _HANDLE
    kernel32.LocalFree.argtypes = (_POINTER,)
    kernel32.LocalFree.restype = _POINTER
    psapi.GetProcessMemoryInfo.argtypes = (
        _HANDLE,
        ctypes.POINTER(ProcessMemoryCountersEx),
        _DWORD,
    )
    advapi32.OpenProcessToken.argtypes = (_HANDLE, _DWORD, ctypes.POINTER(_HANDLE))
    advapi32.GetTokenInformation.argtypes = (
        *(_HANDLE, ctypes.c_int, _POINTER),
        *(_DWORD, ctypes.POINTER(_DWORD)),
    )
    advapi32.ConvertSidToStringSidW.argtypes = (_POINTER, ctypes.POINTER(wintypes.LPWSTR))
    advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW.argtypes = (
        *(wintypes.LPCWSTR, _DWORD),
        *(ctypes.POINTER(_POINTER), ctypes.POINTER(_DWORD)),
    )
    advapi32.ConvertSecurityDescriptorToStringSecurityDescriptorW.argtypes = (
        *(_POINTER, _DWORD, _DWORD),
        *(ctypes.POINTER(wintypes.LPWSTR), ctypes.POINTER(_DWORD)),
    )
    advapi32.GetNamedSecurityInfoW.argtypes = (
        *(wintypes.LPCWSTR, ctypes.c_int, _DWORD),
        *(_POINTER, _POINTER, _POINTER, _POINTER, ctypes.POINTER(_POINTER)),
    )
    advapi32.GetNamedSecurityInfoW.restype = _DWORD

    def close_handle(handle: int) -> None:
        """Close a handle; one that is closed already is left alone."""
        kernel32.CloseHandle(handle)

    def duplicate_handle(
        handle: int, process_id: int | None = None, access: int | None = None
    ) -> int:
        """Duplicate a handle of this process, or of another one, into this process.

        Args:
            handle: The handle's number in its own process.
            process_id: The process that holds it; None for this one.
            access: What the duplicate may be used for; None: for the same.

        Raises:
            OSError: No such process or handle, or no right to it.
        """
        this_process = kernel32.GetCurrentProcess()
        source = this_process
        if process_id is not None:
            source = kernel32.OpenProcess(PROCESS_DUP_HANDLE, False, process_id)
            if not source:
                raise ctypes.WinError(ctypes.get_last_error())
        copy = wintypes.HANDLE()
        done = kernel32.DuplicateHandle(
            *(source, handle, this_process, ctypes.byref(copy)),
            *(access or 0, False, DUPLICATE_SAME_ACCESS if access is None else 0),
        )
        error = ctypes.get_last_error()
        if process_id is not None:
            kernel32.CloseHandle(source)
        if not done or copy.value is None:
            raise ctypes.WinError(error)
        return copy.value

    def user_sid() -> str:
        """Security identifier of this process's user, as text ("S-1-5-...")."""
        token = wintypes.HANDLE()
        if not advapi32.OpenProcessToken(
            kernel32.GetCurrentProcess(), TOKEN_QUERY, ctypes.byref(token)
        ):
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            size = wintypes.DWORD()
            # TOKEN_USER begins with the pointer to the SID, which follows in the same buffer.
            buffer = ctypes.create_string_buffer(256)
            if not advapi32.GetTokenInformation(
                token, TOKEN_USER, buffer, len(buffer), ctypes.byref(size)
            ):
                raise ctypes.WinError(ctypes.get_last_error())
        finally:
            kernel32.CloseHandle(token)
        text = wintypes.LPWSTR()
        sid = ctypes.c_void_p.from_buffer(buffer)
        if not advapi32.ConvertSidToStringSidW(sid, ctypes.byref(text)):
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            return text.value or ""
        finally:
            kernel32.LocalFree(text)
