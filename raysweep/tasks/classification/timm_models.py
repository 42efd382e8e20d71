"""The names of timm's models, read off its source: importing timm and torch to look a name up takes seconds."""

import difflib
import functools
import importlib.util
import re
from pathlib import Path

from raysweep.config_fields import unknown_name
from raysweep.errors import UsageError
from raysweep.tasks.classification.config import FASHION_CNN

REGISTERED = re.compile(r"@register_model\s+def (\w+)\(")
RENAMED = re.compile(r"register_model_deprecations\(__name__, \{(.*?)\}\)", re.DOTALL)
OLD_NAME = re.compile(r"""['"](\w+)['"]\s*:""")


def check_name(model: str) -> None:
    """Fails on a model that is neither `fashion_cnn` nor one of timm's, whatever its tag of pretrained weights.

    Raises:
        UsageError: it is neither; the message has the names that are most like it.
    """
    names, old_names = list_timm_models()
    name = model.partition(".")[0]
    if model == FASHION_CNN or name in names or name in old_names:
        return
    known = [FASHION_CNN, *sorted(names)]
    close = difflib.get_close_matches(model.lower(), known, n=10)
    raise UsageError(
        f"{unknown_name('model', model, {FASHION_CNN, *close})} "
        f"These are the closest of {len(known)}: fashion_cnn and all models of the timm that is installed."
    )


@functools.cache
def list_timm_models() -> tuple[frozenset[str], frozenset[str]]:
    """Lists the models of the installed timm, and the older names that it also takes."""
    spec = importlib.util.find_spec("timm")
    assert spec is not None, "timm is a requirement of this package"
    assert spec.origin is not None
    names: set[str] = set()
    old_names: set[str] = set()
    for file in (Path(spec.origin).parent / "models").glob("*.py"):
        source = file.read_text(encoding="utf-8")
        names.update(REGISTERED.findall(source))
        for block in RENAMED.findall(source):
            old_names.update(OLD_NAME.findall(block))
    return frozenset(names), frozenset(old_names)
