"""Makes text of servers and users fit for messages and logs."""

from __future__ import annotations

import functools
import html
import json
import re
from collections.abc import Iterable
from urllib.parse import quote

# For use within [] in a pattern: characters that start a new line or move a terminal's cursor.
CONTROL_CHARACTERS = r"\x00-\x1f\x7f-\x9f\u2028\u2029"


def printable(text: object, longest: int) -> str:
    """Convert text to one line of bounded length, without control characters and the signatures of signed URLs.

    :param longest: the maximum length in characters.
    """
    if text is None:
        return ""
    line = str(text)[: 4 * longest]
    if not line.isprintable():
        line = "".join(char if char.isprintable() else " " for char in line)
    line = " ".join(line.split())
    if "://" in line:
        line = re.sub(r"(https?://[^\s?\"'<>]*)\?[^\s\"'<>]*", r"\1?***", line)
    return line if len(line) <= longest else line[:longest] + "…"


def redact(text: str, secrets: Iterable[str]) -> str:
    """Replace secrets in ``text`` with stars, also where they are encoded for JSON, HTML or a URL."""
    for form in sorted(encoded_forms(secrets), key=len, reverse=True):
        text = text.replace(form, "***")
    return text


def encoded_forms(secrets: Iterable[str]) -> set[str]:
    """All forms in which a response may contain the secrets: literal, and encoded for JSON, HTML or a URL."""
    return {form for secret in secrets for form in _encoded_forms(secret)}


@functools.lru_cache(maxsize=32)  # every response is searched for the same few secrets
def _encoded_forms(secret: str) -> frozenset[str]:
    in_json = json.dumps(secret)[1:-1]
    in_html_safe_json = in_json.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")
    slashes_escaped = in_json.replace("/", r"\/")
    unescaped = json.dumps(secret, ensure_ascii=False)[1:-1]
    in_any_json = {in_json, in_html_safe_json, slashes_escaped, unescaped}
    return frozenset(({secret, html.escape(secret), quote(secret, safe="")} | in_any_json) - {""})
