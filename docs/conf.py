"""Configuration of the documentation, built by `make docs`: no network, every warning an error."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

from generated import generate

from infield import __version__

generate()

project = "Infield"
author = "Infield developers"
copyright = f"2026, {author}"
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "docstrings", "sphinx.ext.napoleon", "mathml"]
exclude_patterns = [
    "examples/*",
    "generated/list_*.md",
    "generated/samplers.md",
    "generated/operators.md",
    "generated/noise_models.md",
    "generated/benchmarks/*",
    "generated/cards.md",
    "generated/gallery.md",
    "generated/commands.md",
    "generated/groups.md",
    "generated/project.md",
    "generated/face.md",
]
nitpicky = False
html_theme = "furo"
html_title = f"Infield {version}"
html_static_path = ["static"]
html_css_files = ["infield.css"]
html_show_sourcelink = False

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # `make test` has executed them, see extensions/generated.py
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # those of deepinv and torch are their own
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Arguments", "params_style")]
