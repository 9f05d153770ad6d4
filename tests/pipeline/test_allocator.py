"""The restart that lets glibc ask for huge pages."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.allocator import huge_pages_to_be_asked_for

KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")
GLIBC = tuple(int(part) for part in (platform.libc_ver()[1] or "0").split("."))
ON_DEMAND = GLIBC >= (2, 35) and KERNEL.exists() and "[madvise]" in KERNEL.read_text()
# Fills 256 MB and prints the arguments, its number and how many kB of it are in huge pages.
PROGRAM = """
import ctypes, os, sys
from pipeline import allocator
allocator.restart_with_huge_pages()
allocator.keep_freed_memory()
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
ctypes.memset(libc.malloc(ctypes.c_size_t(256 << 20)), 1, 256 << 20)
lines = open("/proc/self/smaps_rollup").read().splitlines()
print(sys.argv[1:], os.getpid(), *(line.split()[1] for line in lines if "AnonHugePages" in line))
"""


def without_tunables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}


def run_program(**variables: str) -> tuple[str, int]:
    """What it printed of its arguments, and its kB in huge pages; its number is checked."""
    command = [sys.executable, "-c", PROGRAM, "a b", "--c=d"]
    with subprocess.Popen(
        command, env=without_tunables() | variables, stdout=subprocess.PIPE, text=True
    ) as process:
        printed = process.communicate(timeout=60)[0]
    arguments, number, kilobytes = printed.rsplit(maxsplit=2)
    assert process.returncode == 0
    assert int(number) == process.pid
    return arguments, int(kilobytes)


@pytest.mark.skipif(not ON_DEMAND, reason="no huge pages on demand here")
def test_a_restarted_process_has_its_arguments_and_huge_pages() -> None:
    arguments, kilobytes = run_program()
    assert arguments == "['a b', '--c=d']"
    assert kilobytes > 200 << 10


@pytest.mark.skipif(not ON_DEMAND, reason="no huge pages on demand here")
def test_tunables_of_the_users_own_stay() -> None:
    assert run_program(GLIBC_TUNABLES="glibc.malloc.hugetlb=0")[1] < 100 << 10


@pytest.mark.parametrize(
    ("setting", "environment", "expected"),
    [
        ("always [madvise] never\n", {}, True),
        ("[always] madvise never\n", {}, False),
        ("always madvise [never]\n", {}, False),
        ("", {}, False),
        ("always [madvise] never\n", {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}, False),
    ],
)
def test_only_where_it_makes_a_difference(
    setting: str, environment: dict[str, str], expected: bool
) -> None:
    assert huge_pages_to_be_asked_for(setting, environment) is expected


@pytest.mark.skipif(not ON_DEMAND, reason="no huge pages on demand here")
@pytest.mark.parametrize(("command", "restarts"), [("train", 1), ("models", 0)])
def test_the_commands_that_train_restart(command: str, restarts: int) -> None:
    """With -v Python reports that it imports `site` whenever it starts."""
    command_line = [sys.executable, "-v", "-m", "pipeline", command, "--help"]
    done = subprocess.run(
        command_line, env=without_tunables(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert done.stderr.count("\nimport 'site'") == 1 + restarts
