"""Convert the reStructuredText in docstrings to Markdown, for the documentation site."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Markdown(griffe.Extension):
    """Replace roles with inline code, and the `::` before a literal block with `:`."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:  # noqa: ARG002  griffe passes more keyword arguments
        if obj.docstring:
            text = re.sub(r":\w+:`[~.]?([^`]+)`", r"`\1`", obj.docstring.value)
            obj.docstring.value = re.sub(r"^::\n|(?<=:):$", "", text, flags=re.MULTILINE)
