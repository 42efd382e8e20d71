"""`python -m platform`: what the standard library's module does when it is run."""

import platform

# In these globals, not by `runpy.run_path`: argparse (3.14) takes its usage line from `__main__.__spec__`.
exec(platform.__spec__.loader.get_code("platform"), globals())  # type: ignore[union-attr]
