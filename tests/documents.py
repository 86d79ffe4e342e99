"""Parses the documentation pages: headings, text, and code blocks."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A code block. Its title is the path of the file that contains it, or that the reader creates."""

    document: Path
    line: int
    section: str
    language: str
    title: str
    code: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


@dataclass(frozen=True)
class Page:
    headings: list[str]
    sections: dict[str, str]  # the text below each heading, without code blocks
    blocks: list[Block]


def read(document: Path) -> Page:
    page = Page([], {"": ""}, [])
    section, fence, language, title, code, first_line = "", "", "", "", "", 0
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        if fence:
            if line.strip() == fence:
                page.blocks.append(Block(document, first_line, section, language, title, textwrap.dedent(code)))
                fence = ""
            else:
                code += line + "\n"
        elif line.strip().startswith("```"):
            language, _, title = line.strip()[3:].partition(" ")
            fence, title, code, first_line = "```", title.removeprefix("title=").strip('"'), "", number
        elif heading := re.fullmatch(r"#+ (.+)", line):
            section = heading[1]
            page.headings.append(section)
            page.sections[section] = ""
        else:
            page.sections[section] += line + "\n"
    assert not fence, f"{document.name}:{first_line}: the code block is not closed"
    return page


def blocks(*languages: str) -> list[Block]:
    return [block for document in DOCUMENTS for block in read(document).blocks if block.language in languages]


def source(block: Block) -> str:
    """Return the code of a block. On Airflow 2, use the imports from its comments."""
    try:
        import airflow.sdk  # noqa: F401
    except ImportError:
        code = re.sub(r"^.*# Airflow 2\.11: (from .*)$", r"\1", block.code, flags=re.MULTILINE)
        return code.replace("from airflow.sdk import", "from airflow.decorators import")
    return block.code
