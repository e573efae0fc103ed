"""The documentation as a site: the repository's own Markdown, and the Python client's API.

`make site` builds it from the root of the repository, so that links between documents lead the
same way here as at a forge. SITE_SOURCE_URL is where the repository's other files can be seen,
such as https://forge.example/owner/name/blob/main; without it they are named and not linked.
"""

import os
import re
import sys
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "clients/python"))

project = "pool-service"
author = "the pool-service authors"
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
copyright = f"{author}. Apache License 2.0"  # noqa: A001  # Sphinx's name

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/README"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "CODE_OF_CONDUCT.md",
    "SECURITY.md",
    "clients/*/README.md",
    "docs/**",
    "pool_service/design.md",
    "tests/conformance/README.md",
]
# What the walk through the repository need not enter.
exclude_patterns = [".*", "build", "dist", "docs/site", "**/node_modules", "**/target"]

myst_heading_anchors = 4
nitpicky = True
# What has no page here: other libraries' types, the client's own modules behind the public ones,
# and generic types, which napoleon cuts at their commas.
nitpick_ignore_regex = [
    ("py:.*", r"(asyncio|collections|contextlib|datetime|google|grpc|os|threading)\..*"),
    ("py:.*", r"pool_service_client\.(aio_streams|connect|following|status|streams|v1)\..*"),
    ("py:class", r"pb\..*|(Async)?OpenAI"),
    ("py:class", r"(dict|frozenset|tuple)\[.*"),
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True

html_theme = "furo"
html_title = f"pool-service {release}"
html_extra_path = ["index.html"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"source_edit_link": "", "top_of_page_buttons": []}

# The order of the pages. docs/README.md has the same for readers of the Markdown.
CONTENTS = {
    "Tutorial": ["docs/tutorial/first-model"],
    "How-to guides": [
        "docs/how-to/install",
        "docs/how-to/operations",
        "docs/how-to/fleet",
        "docs/how-to/kubernetes",
        "docs/how-to/access",
        "docs/how-to/sandbox",
        "docs/how-to/page",
        "docs/how-to/metrics",
        "docs/how-to/traces",
        "docs/how-to/many-models",
        "docs/how-to/other-runtimes",
        "docs/how-to/gateway",
        "docs/how-to/stubs",
        "docs/how-to/troubleshooting",
    ],
    "Reference": [
        "docs/reference/cli",
        "docs/reference/configuration",
        "docs/reference/fleet-configuration",
        "docs/reference/wire",
        "docs/reference/errors",
        "docs/reference/states",
        "docs/reference/metrics",
        "docs/reference/clients",
        "clients/python/README",
        "docs/reference/python-api",
        "clients/go/README",
        "clients/rust/README",
        "clients/typescript/README",
        "docs/reference/compatibility",
        "docs/reference/platforms",
    ],
    "Explanation": [
        "docs/explanation/how-it-decides",
        "docs/explanation/fast-starts",
        "docs/explanation/kept-prompts",
        "docs/explanation/security",
        "docs/explanation/attacks",
        "docs/explanation/comparison",
        "docs/explanation/limits",
        "docs/explanation/faq",
        "docs/explanation/reliability",
        "docs/explanation/benchmarks",
        "docs/explanation/fleet-sizes",
        "docs/explanation/internals",
        "docs/decisions/README",
    ],
    "For those who change it": [
        "README",
        "CONTRIBUTING",
        "pool_service/design",
        "tests/conformance/README",
        "docs/dependencies",
        "docs/releasing",
        "SECURITY",
        "CODE_OF_CONDUCT",
        "CHANGELOG",
    ],
}
BELOW = {"docs/decisions/README": "docs/decisions/0*"}
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def setup(app: Sphinx) -> None:
    """Connect what is done to each page's source."""
    app.connect("source-read", _prepare)


def _prepare(app: Sphinx, docname: str, source: list[str]) -> None:
    """Add the navigation to a page, and turn its links to other files into links to the forge."""
    if app.env.doc2path(docname).suffix != ".md":
        return
    text = LINK.sub(lambda link: _for_the_site(app, docname, link), source[0])
    if docname == root_doc:
        text += "".join(_toctree(*section) for section in CONTENTS.items())
    elif docname in BELOW:
        text += f"\n```{{toctree}}\n:hidden:\n:glob:\n\n/{BELOW[docname]}\n```\n"
    # What rustdoc is told beside the language.
    source[0] = text.replace("```rust,no_run", "```rust").replace("```rust,ignore", "```rust")


def _toctree(caption: str, pages: list[str]) -> str:
    lines = "\n".join(f"/{page}" for page in pages)
    return f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n"


def _for_the_site(app: Sphinx, docname: str, link: re.Match[str]) -> str:
    """Return a link as it is, unless it leads to a file of the repository that is no page."""
    words, target, anchor = link[1], link[2], link[3] or ""
    path = (ROOT / docname).parent.joinpath(target).resolve()
    if "://" in target or not path.exists() or not path.is_relative_to(ROOT):
        return link[0]
    if path.is_file() and app.env.path2doc(path) in app.env.found_docs:
        return link[0]
    url = os.environ.get("SITE_SOURCE_URL", "").rstrip("/")
    return f"[{words}]({url}/{path.relative_to(ROOT)}{anchor})" if url else words
