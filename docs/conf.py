"""Configuration of the documentation; ``python -m tox run -e docs`` builds it."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "flask_agentuity"
author = copyright = "flask_agentuity maintainers"
release = version = installed_version("flask-agentuity")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "pallets_sphinx_themes",
]
html_theme = "flask"
html_title = f"flask_agentuity {version}"
html_show_sourcelink = False
autodoc_typehints = "description"
# Not of parameters without a description, such as those of classes that users do not create.
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
# Built without a network, so other projects' pages are not linked by name.
intersphinx_mapping: dict[str, tuple[str, None]] = {}
exclude_patterns = ["_build"]
nitpicky = False
