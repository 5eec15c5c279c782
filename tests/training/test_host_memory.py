"""Memory that is freed stays with the process, in pages as large as the system has."""

import os
import subprocess
import sys

from unimiss_hf.training import host_memory
from unimiss_hf.training.host_memory import keep_freed_memory

LENGTH = 50_000_000
PROGRAM = f"""
import resource, sys
import torch
from unimiss_hf.training.host_memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if "VmRSS" in line)

if sys.argv[1] == "keep":
    assert keep_freed_memory()
# Until it has found its places: an aligned array does not fit where one of its size has been.
for _ in range(4):
    torch.ones({LENGTH})
before = faults()
for _ in range(5):
    torch.ones({LENGTH})
print(faults() - before, resident())
"""
KIB = LENGTH * 4 / 1024


def run(argument: str, **environment: str) -> tuple[int, int]:
    """Page faults of taking the memory five times more, and what the process has at its end."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, argument],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env={**os.environ, **environment},
    )
    faults, resident = map(int, done.stdout.split())
    return faults, resident


def test_memory_is_taken_once():
    pages = KIB / 4
    usual_faults, usual = run("usual", THP_MEM_ALLOC_ENABLE="0")
    faults, kept = run("keep", THP_MEM_ALLOC_ENABLE="0")
    assert usual_faults > 4 * pages
    assert faults < 0.01 * pages
    assert kept > usual + 0.9 * KIB


def test_other_libraries_are_left_alone(monkeypatch):
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)

    class Other:
        pass

    monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda name: Other())
    assert not keep_freed_memory()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"


def test_what_the_environment_says_stays(monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda name: object())
    keep_freed_memory()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"
