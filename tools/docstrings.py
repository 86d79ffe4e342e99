"""For the site: what our docstrings have of reStructuredText, as Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Markdown(griffe.Extension):
    """Roles become code, and what announces a block of code is a colon."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:  # noqa: ARG002  griffe calls it so
        if obj.docstring:
            text = re.sub(r":\w+:`[~.]?([^`]+)`", r"`\1`", obj.docstring.value)
            obj.docstring.value = re.sub(r"^::\n|(?<=:):$", "", text, flags=re.MULTILINE)
