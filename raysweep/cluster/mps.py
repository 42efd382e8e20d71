"""Finds whether NVIDIA MPS serves a node: processes that share a GPU then compute at once, not in turns."""

import shutil
import subprocess

CONTROL = "nvidia-cuda-mps-control"
ANSWER_TIMEOUT_S = 10.0


def serves() -> bool:
    """Checks whether the control daemon of MPS answers on this node, where CUDA would look for it."""
    program = shutil.which(CONTROL)
    if program is None:
        return False
    try:
        asked = subprocess.run(
            [program], input="get_server_list\n", text=True, capture_output=True, timeout=ANSWER_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0
