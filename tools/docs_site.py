"""A hook of mkdocs: puts the generated reference into pages, and the repository's own pages into the site.

Links are written as they are on disk, so that they work where the repository is read, too; here they become the site's.
What a link leads to has to be there, and in the site: else `mkdocs build --strict` fails.
"""

import logging
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # last: `platform` stays the standard library's

from tools.docs_errors import build_errors  # noqa: E402
from tools.docs_reference import PARTS  # noqa: E402

GENERATED = {**PARTS, "errors": build_errors}
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "benchmarks/README.md": "project/benchmarks.md",
}
"""Pages of the repository that are pages of the site, too."""
MARKER = re.compile(r"<!-- reference: (\w+) -->")
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")
log = logging.getLogger("mkdocs.hooks.docs_site")


def on_files(files: Any, config: Any) -> Any:
    """Adds the repository's own pages."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fills in what is generated, and makes the links those of the site."""
    place = page.file.src_uri
    markdown = LINK.sub(lambda match: resolve_link(place, match[1]) + (match[2] or ""), markdown)
    return MARKER.sub(lambda match: build_part(match[1]), markdown)


def build_part(name: str) -> str:
    """Builds a part of the reference.

    Raises:
        PluginError: there is none of that name.
    """
    if name not in GENERATED:
        raise PluginError(f"a reference is one of {', '.join(GENERATED)}, got {name!r}")
    return GENERATED[name]()


def resolve_link(page: str, link: str) -> str:
    """Returns the link from a page of the site to what `link` leads to from its file in the repository."""
    source = next((source for source, name in PAGES.items() if name == page), f"docs/{page}")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if not (ROOT / target).exists():
        log.warning("%s links to %s, and there is no %s", source, link, target)
    found = PAGES.get(target, target.removeprefix("docs/"))
    if found == target:
        log.warning("%s links to %s, which is no page of the site: name the file instead", source, link)
    return posixpath.relpath(found, posixpath.dirname(page) or ".")
