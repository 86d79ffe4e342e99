"""The release tool: what it refuses, and what it adds to the packages that only the publisher knows."""

from __future__ import annotations

import email
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from airflow_provider_polytomic import __version__
from tools import release
from tools.release import ROOT, Publisher, add_publisher, make_links_absolute

# The tool refuses domains that are reserved for examples, so the tests need one that looks real.
REPOSITORY = "https://github.com/owner/name"
MAINTAINER = "Maria Muñoz <maria@data-team.dev>"
TAG = f"v{__version__}"


@pytest.mark.parametrize(
    ("repository", "maintainer", "why"),
    [
        ("http://github.com/owner/name", MAINTAINER, "--repository must be an https URL"),
        ("https://github.com/owner", MAINTAINER, "--repository must be an https URL with an owner and a name"),
        ("github.com/owner/name", MAINTAINER, "--repository must be an https URL"),
        ("https://git.example.com/owner/name", MAINTAINER, "git.example.com is reserved for examples"),
        (REPOSITORY, "maria@data-team.dev", "--maintainer must be 'Name <address>'"),
        (REPOSITORY, "Maria", "--maintainer must be 'Name <address>'"),
        (REPOSITORY, "", "--maintainer must be 'Name <address>'"),
        (REPOSITORY, "Maria <maria@example.org>", "example.org is reserved for examples"),
    ],
)
def test_publisher_without_a_real_address_is_rejected(repository: str, maintainer: str, why: str) -> None:
    """The message names the option."""
    with pytest.raises(ValueError, match=why):
        Publisher.parse(repository, maintainer)


def test_build_without_repository_or_maintainer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Both options are required, so that a release cannot be built without them by accident."""
    for arguments in ([], ["--repository", REPOSITORY], ["--maintainer", MAINTAINER]):
        with pytest.raises(SystemExit) as exit_code:
            release.main(["build", TAG, *arguments])
        assert exit_code.value.code == 2
        assert "the following arguments are required" in capsys.readouterr().err


def test_build_of_an_unreleased_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is built while the changelog says `(unreleased)`, or with a publisher that is not real."""
    changelog = tmp_path / "CHANGELOG.md"
    monkeypatch.setattr(release, "CHANGELOG", changelog)
    monkeypatch.setattr(release, "build", lambda *_: pytest.fail("built"))
    options = ["--repository", REPOSITORY, "--maintainer", MAINTAINER]

    changelog.write_text(f"## {__version__} (unreleased)\n\nText.\n")
    assert release.main(["build", TAG, *options]) == 1
    assert "(unreleased)" in capsys.readouterr().out

    changelog.write_text(f"## {__version__} (2026-12-01)\n\nText.\n")
    assert release.main(["build", TAG, *options[:3], "nobody"]) == 1
    assert "--maintainer must be" in capsys.readouterr().out


def test_relative_links_become_links_to_the_tag() -> None:
    """Pages, parts of pages, and images; other links stay."""
    markdown = (
        "![A picture](docs/images/a.png) [page](docs/page.md#part), [both](CHANGELOG.md)\n"
        "[here](#part) [there](https://www.polytomic.com/) [mail](mailto:a@b.c)"
    )

    assert make_links_absolute(markdown, REPOSITORY, "v1") == (
        f"![A picture]({REPOSITORY}/raw/v1/docs/images/a.png) [page]({REPOSITORY}/blob/v1/docs/page.md#part), "
        f"[both]({REPOSITORY}/blob/v1/CHANGELOG.md)\n"
        "[here](#part) [there](https://www.polytomic.com/) [mail](mailto:a@b.c)"
    )


def test_readme_has_no_relative_link_left_and_every_target_exists() -> None:
    """The package index shows the README outside of the repository."""
    absolute = make_links_absolute((ROOT / "README.md").read_text(encoding="utf-8"), REPOSITORY, TAG)
    targets = re.findall(r"\]\(([^)]*)\)", absolute)
    own = [target for target in targets if target.startswith(REPOSITORY)]

    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    assert len(own) > 20
    for target in own:
        path = re.sub(rf"^{REPOSITORY}/(blob|raw)/{TAG}/", "", target).partition("#")[0]
        assert (ROOT / path).is_file(), target


def test_pyproject_with_two_project_tables_is_rejected() -> None:
    """The text is changed in one place only."""
    with pytest.raises(ValueError, match=r"one \[project\] table"):
        add_publisher("[project]\n[project]\n", Publisher.parse(REPOSITORY, MAINTAINER), TAG)


@pytest.mark.system
def test_release_has_urls_maintainer_and_absolute_links(tmp_path: Path) -> None:
    """In the wheel and in the sdist; the wheel of `make dist` has none of them."""
    pytest.importorskip("build", reason="what is built is the same for all Airflows")
    release.build(TAG, Publisher.parse(REPOSITORY, MAINTAINER), tmp_path)

    (wheel,) = tmp_path.glob("*.whl")
    (sdist,) = tmp_path.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        name = f"airflow_provider_polytomic-{__version__}.dist-info/METADATA"
        texts = [archive.read(name).decode()]
    with tarfile.open(sdist) as packed:
        file = packed.extractfile(f"airflow_provider_polytomic-{__version__}/PKG-INFO")
        assert file is not None
        texts.append(file.read().decode())
    for text in texts:
        metadata = email.message_from_string(text)
        urls = dict(url.split(", ") for url in metadata.get_all("Project-URL") or [])
        assert urls == {
            "Homepage": REPOSITORY,
            "Documentation": f"{REPOSITORY}/blob/{TAG}/README.md#documentation",
            "Source": f"{REPOSITORY}/tree/{TAG}",
            "Changelog": f"{REPOSITORY}/blob/{TAG}/CHANGELOG.md",
            "Issues": f"{REPOSITORY}/issues",
        }
        assert "maria@data-team.dev" in metadata["Maintainer-email"]
        assert "](docs/" not in text
        assert f"{REPOSITORY}/raw/{TAG}/docs/images/deferred.png" in text
