"""`python -m platform`: what the standard library's module does when it is run; on stderr, where the commands are."""

import platform
import sys
from pathlib import Path

_verbs = sorted(path.stem for path in Path(platform.__path__[0]).glob("[a-z]*.py"))
_said = sys.argv[1] if sys.argv[1:2] and sys.argv[1] in _verbs else None
_hint = f"; for this one: python -m platform.{_said} ..." if _said else ""
print(f"raysweep's commands are python -m platform.VERB, for VERB one of {', '.join(_verbs)}{_hint}", file=sys.stderr)
if _said:
    sys.exit(2)

# In these globals, not by `runpy.run_path`: argparse (3.14) takes its usage line from `__main__.__spec__`.
exec(platform.__spec__.loader.get_code("platform"), globals())  # type: ignore[union-attr]
