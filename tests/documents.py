"""The documents, read: their headings, their text, their blocks of code."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A block of code. Its title is the file of which it is, or shall become, a part."""

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
    sections: dict[str, str]  # the text below a heading, up to the next one, without its code
    blocks: list[Block]


def read(document: Path) -> Page:
    page = Page([], {"": ""}, [])
    section, fence, language, title, code, begun = "", "", "", "", "", 0
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        if fence:
            if line.strip() == fence:
                page.blocks.append(Block(document, begun, section, language, title, textwrap.dedent(code)))
                fence = ""
            else:
                code += line + "\n"
        elif line.strip().startswith("```"):
            language, _, title = line.strip()[3:].partition(" ")
            fence, title, code, begun = "```", title.removeprefix("title=").strip('"'), "", number
        elif heading := re.fullmatch(r"#+ (.+)", line):
            section = heading[1]
            page.headings.append(section)
            page.sections[section] = ""
        else:
            page.sections[section] += line + "\n"
    assert not fence, f"{document.name}:{begun}: the block of code has no end"
    return page


def blocks(*languages: str) -> list[Block]:
    return [block for document in DOCUMENTS for block in read(document).blocks if block.language in languages]


def source(block: Block) -> str:
    """The code of a block, with the imports that it says are others on Airflow 2."""
    try:
        import airflow.sdk  # noqa: F401
    except ImportError:
        code = re.sub(r"^.*# Airflow 2\.11: (from .*)$", r"\1", block.code, flags=re.MULTILINE)
        return code.replace("from airflow.sdk import", "from airflow.decorators import")
    return block.code
