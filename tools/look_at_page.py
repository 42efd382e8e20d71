"""Uses the page of `serve` in a real browser, as a person would, and keeps pictures of it.

    pip install playwright; apt-get install chromium
    python tools/look_at_page.py http://127.0.0.1:8000/ FOLDER PHOTOGRAPH OTHER --browser /usr/bin/chromium

PHOTOGRAPH is of one of the classes, OTHER of none. Pictures go to FOLDER: light and dark, wide and as narrow as a
telephone. Exits with 1 where the page reports an error, asks another server, cannot be used by keys, or is wider than
the window.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

WINDOWS = {"wide": (1100, 800), "narrow": (320, 640)}
DROP = """([name, type, bytes]) => {
  const files = new DataTransfer();
  files.items.add(new File([Uint8Array.from(bytes)], name, {type}));
  document.dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true}));
}"""


def wait_for_answer(page: Any) -> str:
    """Waits until the page has an answer, and returns it."""
    page.wait_for_selector('#panel[aria-busy="false"]')
    return str(page.inner_text("#panel"))


def use_page(page: Any, name: str, options: argparse.Namespace) -> list[str]:
    """Labels photographs by choosing, by dropping and by keys; returns what is wrong."""
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith((options.url, "blob:", "data:")) else faults.append(f"asked {request.url}")
        ),
    )
    page.goto(options.url)
    page.wait_for_selector("#classes")
    page.screenshot(path=options.folder / f"{name}-empty.png", full_page=True)
    page.keyboard.press("Tab")
    if page.evaluate("document.activeElement.id") != "file":
        faults.append("the first key Tab must reach the choice of a file")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(options.photograph)
    print(f"{name}: {wait_for_answer(page)!r}")
    page.wait_for_timeout(200)
    page.screenshot(path=options.folder / f"{name}-photograph.png", full_page=True)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    if page.is_visible("#heat"):
        faults.append("keys must hide the heat map")
    page.evaluate(DROP, [options.other.name, "image/png", list(options.other.read_bytes())])
    print(f"{name}: {wait_for_answer(page)!r}")
    page.screenshot(path=options.folder / f"{name}-other.png", full_page=True)
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        faults.append("the page must not be wider than the window")
    page.evaluate(DROP, ["<b>text</b>.jpg", "text/plain", [1, 2, 3]])
    if "is text/plain" not in wait_for_answer(page):
        faults.append("a file of another type must be refused in a sentence")
    page.screenshot(path=options.folder / f"{name}-text.png", full_page=True)
    return faults


def main() -> None:
    """Looks at all pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    for name in ("folder", "photograph", "other"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--browser", help="program of Chromium; default: playwright's own")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    faults = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for window, (width, height) in WINDOWS.items():
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                name = f"{scheme}-{window}"
                faults += [f"{name}: {fault}" for fault in use_page(page, name, options)]
                page.close()
        browser.close()
    print("\n".join(faults))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
