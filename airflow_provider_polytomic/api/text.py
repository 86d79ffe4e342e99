"""Makes text of foreign origin fit for messages and logs."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from urllib.parse import quote

# For use within [] in a pattern: characters that start a new line or move a terminal's cursor.
CONTROL_CHARACTERS = r"\x00-\x1f\x7f-\x9f\u2028\u2029"


def printable(text: object, longest: int) -> str:
    """Foreign text as one line of bounded length, without control characters or signed URLs' signatures."""
    if text is None:
        return ""
    line = str(text)[: 4 * longest]
    line = " ".join("".join(char if char.isprintable() else " " for char in line).split())
    line = re.sub(r"(https?://[^\s?\"'<>]*)\?[^\s\"'<>]*", r"\1?***", line)
    return line if len(line) <= longest else line[:longest] + "…"


def redact(text: str, secrets: Iterable[str]) -> str:
    """``text`` with stars for the secrets in it: as they are, or as JSON, HTML or a URL would spell them."""
    for form in sorted(encoded_forms(secrets), key=len, reverse=True):
        text = text.replace(form, "***")
    return text


def encoded_forms(secrets: Iterable[str]) -> set[str]:
    """All ways in which an answer may spell secrets."""
    spelled: set[str] = set()
    for secret in secrets:
        in_json = json.dumps(secret)[1:-1]
        in_html_safe_json = in_json.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")
        slashes_escaped = in_json.replace("/", r"\/")
        unescaped = json.dumps(secret, ensure_ascii=False)[1:-1]
        spelled |= {secret, in_json, in_html_safe_json, slashes_escaped, unescaped}
        spelled |= {html.escape(secret), quote(secret, safe="")}
    return spelled - {""}
