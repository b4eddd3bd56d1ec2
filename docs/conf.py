"""How the site is built: ``make docs``. Pages need no network, neither to be built nor to be read."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "_ext"), str(Path(__file__).parents[1])]

import monai_ssl  # noqa: E402

project = "monai_ssl"
author = "the authors of monai_ssl"
version = release = monai_ssl.__version__
language = "en"
smartquotes_action = "D"  # dashes alone: quotes of a config stay as they can be typed

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "bundle_settings",
    "known_names",
    "mathml",
    "repository_links",
    "self_contained",
]
exclude_patterns = ["_build", "_ext", "examples"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "imported-members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_custom_sections = ["Shape", "Reference"]

html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"monai_ssl {release}"
html_show_sphinx = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"
