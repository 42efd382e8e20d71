"""Looks for the optional packages that ONNX needs. Imports none of them."""

import importlib.util

from raysweep.errors import UsageError

PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def check_installed() -> None:
    """Fails early where a package is missing.

    Raises:
        UsageError: one is.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"export to ONNX needs {', '.join(PACKAGES)}, and {', '.join(missing)} cannot be imported: "
            "pip install 'raysweep[export]'; or export with --format standalone, which needs none of them"
        )
