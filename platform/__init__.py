# `python -m platform.tune` needs a folder of this name, and from the repo root the folder hides the standard
# library's `platform`, which torch, ray, wandb and uuid import. So it becomes that module: the same code,
# file and spec, plus a `__path__`. (No docstring: `platform.__doc__` is the standard library's.)
#
# The code runs in this module object, not in a second one put in its place: `importlib.reload` then returns
# the same module, and other threads wait for a half-done import. Nothing imported here may import `platform`.
import importlib.machinery
import os

_spec = importlib.machinery.PathFinder.find_spec("platform", [os.path.dirname(os.__file__)])  # noqa: PTH120
_spec.submodule_search_locations = __path__
del importlib, os

exec(_spec.loader.get_code("platform"), globals())
__spec__, __loader__, __file__, __cached__ = _spec, _spec.loader, _spec.origin, _spec.cached
del _spec
