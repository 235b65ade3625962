"""The documentation site: `make docs` builds it into docs/_build, with warnings as errors."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
_project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]

project = _project["name"]
author = "The Flask-Offload authors"
copyright = author
release = version = _project["version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "from_code",
    "repository_links",
    "llms_txt",
    "recorded_lab",
]
exclude_patterns = ["README.md", "_build", "_ext", "engine-example"]
root_doc = "index"
smartquotes = False  # they would change --options
source_suffix = {".md": "markdown"}
default_role = "code"  # a docstring's `backticks` are code, as everywhere else

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_search_scorer = str(HERE / "_static" / "scorer.js")
html_show_sphinx = False
html_theme_options = {
    "source_repository": _project["urls"]["Source"] + "/",
    "source_branch": "main",
    "source_directory": "docs/",
    "light_css_variables": {
        "color-brand-primary": "#0b5c6b",
        "color-brand-content": "#0b5c6b",
        "color-brand-visited": "#5b4a8a",
    },
    "dark_css_variables": {
        "color-brand-primary": "#6fd3e3",
        "color-brand-content": "#6fd3e3",
        "color-brand-visited": "#b9a7ea",
    },
}

suppress_warnings = ["toc.multiple_toc_parents"]
