"""The C library's allocator (glibc), told to suit a training step's big buffers."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path

# mallopt(3): keep freed buffers instead of giving them back and faulting them in again.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEPT_BYTES = 1 << 30
_TUNABLES = "GLIBC_TUNABLES"
_HUGE_PAGES = "glibc.malloc.hugetlb=1"
_KERNEL_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def keep_freed_memory() -> None:
    """Raise glibc's thresholds, so that a step's buffers are not unmapped and mapped again.

    Does nothing where the C library has no mallopt or the user set thresholds by environment.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_TOP_PAD, 64 << 20)


def restart_with_huge_pages() -> None:
    """Starts this process anew with huge pages asked for, where that makes a difference.

    TensorFlow's threads map buffers of more than 64 MB afresh in every step, whatever the
    thresholds: in pages of 4 kB, that is a fault for every thousand numbers. glibc reads what
    makes it ask for pages of 2 MB (2.35 and later, others ignore it) when a process starts, hence
    the restart. The process keeps its number, its arguments and its open files.
    """
    setting = _KERNEL_SETTING.read_text() if _KERNEL_SETTING.exists() else ""
    if huge_pages_to_be_asked_for(setting, os.environ):
        variables = {**os.environ, _TUNABLES: _HUGE_PAGES}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], variables)


def huge_pages_to_be_asked_for(setting: str, environment: Mapping[str, str]) -> bool:
    """Whether the kernel gives huge pages on demand only and the user has set no tunables.

    Args:
        setting: the kernel's, `always [madvise] never` with the one that holds in brackets.
        environment: of this process; after the restart it has tunables.
    """
    return "[madvise]" in setting and _TUNABLES not in environment
