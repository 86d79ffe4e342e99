"""Check and build a release.

    python -m tools.release check v0.1.0
    python -m tools.release build v0.1.0 --repository https://… --maintainer 'Name <address>'

`check` compares a tag with the version of the package and the first section of the changelog. `build` does the same,
and writes the sdist and the wheel to `dist/`, with what only the publisher knows: the URLs of the project, its
maintainer, and a README whose links work on the package index. It refuses to build without them.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path
from urllib.parse import urlsplit

from airflow_provider_polytomic import __version__

ROOT = Path(__file__).parent.parent
CHANGELOG = ROOT / "CHANGELOG.md"
# Domains that are reserved for examples (RFC 2606): nobody reads mail or hosts a repository there.
RESERVED_DOMAIN = re.compile(r"(^|\.)(example(\.(com|net|org))?|invalid|localhost|test)$", re.IGNORECASE)
# An inline link or image of Markdown with a relative target: `[text](docs/page.md#part)`.
RELATIVE_LINK = re.compile(r"(?P<text>(?P<image>!?)\[[^\]]*\])\((?!#|[a-z][a-z0-9+.-]*:)(?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Release:
    """A section of the changelog."""

    version: str
    date: str  # or "unreleased"
    text: str

    @property
    def is_released(self) -> bool:
        return self.date != "unreleased"


def parse_releases(changelog: str) -> list[Release]:
    """Return the sections of a changelog, newest first."""
    parts = re.split(r"^## (\S+) \((\S+)\)$", changelog, flags=re.MULTILINE)[1:]
    return [Release(*parts[at : at + 3]) for at in range(0, len(parts), 3)]


def check_tag(tag: str, changelog: str, version: str = __version__) -> str | None:
    """Return why a tag cannot be released, or None if it can."""
    if tag != f"v{version}":
        return f"The tag is {tag}, but the version in airflow_provider_polytomic/__init__.py is {version}."
    newest = parse_releases(changelog)[0]
    if newest.version != version or not newest.is_released:
        found = f"{newest.version} ({newest.date})"
        return f"The first section of CHANGELOG.md must be `## {version} (date)`, but it is `## {found}`."
    return None


@dataclass(frozen=True)
class Publisher:
    """Who publishes a release, and where its sources are.

    :ivar repository: the https URL of the repository, such as ``https://github.com/owner/name``, without a slash at
        the end.
    :ivar name: of the maintainer.
    :ivar email: of the maintainer.
    """

    repository: str
    name: str
    email: str

    @classmethod
    def parse(cls, repository: str, maintainer: str) -> Publisher:
        """Create one from the arguments of the command.

        :raises ValueError: an argument is not usable as metadata of a package.
        """
        url = urlsplit(repository)
        if url.scheme != "https" or not url.hostname or len(url.path.strip("/").split("/")) < 2 or url.query:
            raise ValueError(f"--repository must be an https URL with an owner and a name, not {repository!r}.")
        name, email = parseaddr(maintainer)
        if not name or not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", email):
            raise ValueError(f"--maintainer must be 'Name <address>', not {maintainer!r}.")
        for option, domain in (("--repository", url.hostname), ("--maintainer", email.rpartition("@")[2])):
            if RESERVED_DOMAIN.search(domain):
                raise ValueError(f"{option} must be a real address: {domain} is reserved for examples.")
        return cls(repository.rstrip("/"), name, email)

    def urls(self, tag: str) -> dict[str, str]:
        """Return the URLs of the project by their labels on the package index."""
        return {
            "Homepage": self.repository,
            "Documentation": f"{self.repository}/blob/{tag}/README.md#documentation",
            "Source": f"{self.repository}/tree/{tag}",
            "Changelog": f"{self.repository}/blob/{tag}/CHANGELOG.md",
            "Issues": f"{self.repository}/issues",
        }


def make_links_absolute(markdown: str, repository: str, tag: str) -> str:
    """Let relative links point to a tag of the repository, and those of images to the file itself."""

    def replace(match: re.Match[str]) -> str:
        kind = "raw" if match["image"] else "blob"
        return f"{match['text']}({repository}/{kind}/{tag}/{match['target']})"

    return RELATIVE_LINK.sub(replace, markdown)


def add_publisher(pyproject: str, publisher: Publisher, tag: str) -> str:
    """Add the maintainer and the URLs to the `[project]` table of a pyproject.toml."""
    urls = ", ".join(f"{label} = {json.dumps(url)}" for label, url in publisher.urls(tag).items())
    person = f"{{ name = {json.dumps(publisher.name, ensure_ascii=False)}, email = {json.dumps(publisher.email)} }}"
    added = f"[project]\nmaintainers = [{person}]\nurls = {{ {urls} }}\n"
    if pyproject.count("[project]\n") != 1:
        raise ValueError("pyproject.toml must have one [project] table.")
    return pyproject.replace("[project]\n", added)


def build(tag: str, publisher: Publisher, target: Path) -> None:
    """Build the sdist and the wheel of a release.

    The sources are those of the sdist, so that nothing else of the working folder gets into the packages.

    :param target: the folder of the packages.
    :raises subprocess.CalledProcessError: a build failed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        command = [sys.executable, "-m", "build", "--sdist", "--outdir", str(folder / "plain"), str(ROOT)]
        subprocess.run(command, check=True)
        (sdist,) = (folder / "plain").glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            archive.extractall(folder / "sources", filter="data")
        (sources,) = (folder / "sources").iterdir()

        readme = sources / "README.md"
        absolute = make_links_absolute(readme.read_text(encoding="utf-8"), publisher.repository, tag)
        readme.write_text(absolute, encoding="utf-8")
        pyproject = sources / "pyproject.toml"
        complete = add_publisher(pyproject.read_text(encoding="utf-8"), publisher, tag)
        pyproject.write_text(complete, encoding="utf-8")
        subprocess.run([sys.executable, "-m", "build", "--outdir", str(target), str(sources)], check=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    check_command = commands.add_parser("check", help="compare a tag with version and changelog")
    build_command = commands.add_parser("build", help="check the tag, and build the packages")
    for command in (check_command, build_command):
        command.add_argument("tag", help="such as v0.1.0")
    build_command.add_argument("--repository", required=True, help="https URL of the repository")
    build_command.add_argument("--maintainer", required=True, help="'Name <address>'")
    build_command.add_argument("--target", type=Path, default=ROOT / "dist", help="folder of the packages")
    given = parser.parse_args(arguments)

    problem = check_tag(given.tag, CHANGELOG.read_text(encoding="utf-8"))
    if problem:
        print(problem)
        return 1
    if given.command == "build":
        try:
            publisher = Publisher.parse(given.repository, given.maintainer)
        except ValueError as error:
            print(error)
            return 1
        build(given.tag, publisher, given.target)
    print(f"Version {__version__} {'was built' if given.command == 'build' else 'can be released'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
