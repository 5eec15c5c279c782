"""Draws the mermaid diagrams of docs/ as SVG files, in a browser without a network.

python docs/hooks/draw_diagrams.py MERMAID_JS

MERMAID_JS is `dist/mermaid.min.js` of the npm package mermaid (`npm pack mermaid@11`). It needs
the Python package playwright and a Chromium.
"""

import argparse
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from drawn_diagrams import diagrams_of, folder_of

_DOCS = Path(__file__).parents[1]
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_DRAW = """async text => {
    mermaid.initialize({
        startOnLoad: false, htmlLabels: false, theme: "neutral", fontFamily: "sans-serif",
        flowchart: {htmlLabels: false, wrappingWidth: 330}, deterministicIds: true,
        themeVariables: {fontSize: "14px", edgeLabelBackground: "#ffffff"},
        themeCSS: ".edgeLabel, .edgeLabel rect { opacity: 1 !important; }",
    });
    return (await mermaid.render("diagram", text)).svg;
}"""


def main() -> int:
    """Draw each diagram that a page has, and delete the others; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("script", type=Path, metavar="MERMAID_JS")
    script = parser.parse_args().script
    if not script.is_file():
        parser.error(f"there is no file {script}")
    diagrams = {}
    for page in sorted(_DOCS.rglob("*.md")):
        diagrams |= diagrams_of(page.read_text(encoding="utf-8"))
    folder = folder_of(_DOCS)
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.svg"):
        if path.name not in diagrams:
            path.unlink()
    browser_path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 1000})
        page.add_script_tag(path=script)
        for name, text in diagrams.items():
            (folder / name).write_text(page.evaluate(_DRAW, text), encoding="utf-8")
            print(f"Drawn: {folder / name}")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
