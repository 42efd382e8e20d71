"""The memory that a process keeps."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from raysweep.cores import keep_freed_memory

def count() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
torch.ones(2**25)  # no threshold that glibc learns is as high
first = count()
keep_freed_memory()
count()
print(first, count())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc only")
def test_a_freed_block_of_16_mb_is_used_again_without_asking_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    asked, kept = map(int, done.stdout.split())
    assert kept < asked / 5
