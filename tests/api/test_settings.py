"""Settings of the client: URLs, proxies and certificates of the environment, and secrets."""

from __future__ import annotations

import logging
from pathlib import Path

import certifi
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_polytomic.api.plan import Request
from airflow_provider_polytomic.api.settings import (
    Settings,
    _warn_of_socks,
    ca_bundle_from_environment,
    parse_http_url,
    proxy_from_environment,
)

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy")
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, *BUNDLES):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://app.polytomic.com", "https://app.polytomic.com"),
        ("HTTPS://App.Polytomic.COM/", "https://app.polytomic.com"),
        ("http://h:80//", "http://h:80"),
        ("https://h/a/b/", "https://h/a/b"),
        ("https://h/a b/ä/%41", "https://h/a%20b/%C3%A4/%41"),
        ("https://[::1]:8765/a", "https://[::1]:8765/a"),
        ("http://::1", "http://[::1]"),
        ("http://2001:DB8::1/a", "http://[2001:db8::1]/a"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://me:p%40ss@proxy:3128", "http://me:p%40ss@proxy:3128"),
        ("http://my_host", "http://my_host"),
    ],
)
def test_parse_http_url_normalizes_host_and_path(text: str, url: str) -> None:
    """The host is in lower case and IDNA-encoded, the path is percent-encoded, and there is no trailing slash."""
    assert parse_http_url(text).geturl() == url
    assert parse_http_url(url).geturl() == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "h:80",
        "//h",
        "ftp://h",
        "socks5://h",
        "http://",
        "http:///path",
        "http://:80",
        "http://h:",
        "http://h:x",
        "http://h:99999",
        "https://https:/h",
        "http://h h",
        "http://h\\h",
        "http://h/a\\b",
        "http://h/%zz",
        "http://h/../a",
        "http://h/a/.",
        "http://h?a=b",
        "http://h#a",
        "http://[::1",
        "http://[::1%eth0]",
        "http://1::2::3",
        "http://[h]",
        "http://a..b",
        f"http://{'a' * 64}.example",
        "http://<h>",
        "http://h/\n",
        "http://h/\x7f",
    ],
)
def test_parse_http_url_rejects_invalid_urls(text: str) -> None:
    """No library interprets such a text."""
    with pytest.raises(ValueError) as error:
        parse_http_url(text)
    assert type(error.value) is not UnicodeError


@given(st.text(), st.sampled_from(["", "http://", "https://h/", "https://", "http://["]))
def test_parse_http_url_is_idempotent_or_raises_a_value_error_for_any_text(text: str, before: str) -> None:
    """A normalized URL is returned unchanged."""
    try:
        url = parse_http_url(before + text).geturl()
    except ValueError:
        return
    assert parse_http_url(url).geturl() == url
    assert url.isascii() or "@" in url


@pytest.mark.parametrize(
    ("environment", "base_url", "proxy"),
    [
        ({}, "https://h", None),
        ({"HTTPS_PROXY": "http://p:3128"}, "https://h", "http://p:3128"),
        ({"https_proxy": "http://p:3128"}, "https://h", "http://p:3128"),
        ({"HTTP_PROXY": "http://p:3128"}, "https://h", None),
        ({"HTTP_PROXY": "http://p:3128"}, "http://h", "http://p:3128"),
        ({"ALL_PROXY": "http://p:3128"}, "https://h", "http://p:3128"),
        ({"ALL_PROXY": "socks5://s", "HTTPS_PROXY": "http://p:3128"}, "https://h", "http://p:3128"),
        ({"HTTPS_PROXY": "p:3128"}, "https://h", "http://p:3128"),
        ({"HTTPS_PROXY": "https://p/"}, "https://h", "https://p"),
        ({"HTTPS_PROXY": "http://me:p%40ss@p:3128"}, "https://h", "http://me:p%40ss@p:3128"),
        ({"HTTPS_PROXY": ""}, "https://h", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "h"}, "https://h", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "other, .h.example"}, "https://a.h.example:8443/x", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "h:8443"}, "https://h:8443", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "h:8443"}, "https://h", "http://p"),
        ({"HTTPS_PROXY": "http://p", "no_proxy": "*"}, "https://h", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "ph"}, "https://h", "http://p"),
        ({"HTTPS_PROXY": "nonsense://p", "NO_PROXY": "h"}, "https://h", None),
    ],
)
def test_proxy_from_environment_reads_the_usual_variables(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], base_url: str, proxy: str | None
) -> None:
    """Both spellings are read, and `NO_PROXY` takes precedence."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_from_environment(base_url) == proxy


@pytest.mark.parametrize("proxy", ["socks5://me:pass-word@p", "http://[p", "http://me:pass-word@p:x", "://"])
def test_proxy_from_environment_raises_when_the_proxy_is_not_usable(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """The error names the variable and does not contain the password."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ValueError, match="HTTPS_PROXY is not the URL of an HTTP proxy") as error:
        proxy_from_environment("https://h")
    assert "pass-word" not in str(error.value)


@pytest.mark.parametrize("scheme", ["socks4", "socks4a", "socks5", "socks5h", "SOCKS5"])
def test_a_socks_proxy_in_all_proxy_is_skipped_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, scheme: str
) -> None:
    """The warning names the variable and the field that takes precedence, and does not contain the password."""
    _warn_of_socks.cache_clear()
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://me:pass-word@p:1080")
    with caplog.at_level(logging.WARNING):
        assert [proxy_from_environment(url) for url in ("https://h", "http://h", "https://i")] == [None] * 3
    (record,) = caplog.records
    assert "ALL_PROXY" in record.message
    assert "proxy in the connection's extra" in record.message
    assert "pass-word" not in record.message


NO_PROXY = [
    *("", "*", "h", "H", "h.example", ".h.example", "H.EXAMPLE", "a.h.example", "h.example:8443", "example", "ample"),
    *(".h.example:8443", "h.example:1", " h.example , other ", ",,h.example,", "other h.example", "*.h.example"),
    *("10.0.0.0/8", "10.1.2.3", "10.1.2.0/24,x", "10.1.3.0/24", "10.1.2.3/32", "10.1.2.3/33", "10.1.2.3/", "/8"),
    *("10.1.2.3/8", "10.0.0.0/x", "10.0.0.0/8/8", "2.3", ".3", "10.", "::1", "::2", "0::1", "127.0.0.0/8", "localhost"),
]
# Networks and spellings of an address that match in addition: `requests` does not understand them.
EXTENDED_NO_PROXY = [
    *("[::1]", "[::1]:8443", "::/64", "2001:db8::/32", "10.1.2.3:8443", "0.0.0.0/0", "10.0.0.0/255.0.0.0"),
    *("*, x", " * "),
]
NO_PROXY_URLS = [
    *("https://h", "https://h.example", "https://a.h.example:8443/x", "https://h.example:8443", "https://xh.example"),
    *("https://10.1.2.3", "https://10.1.2.3:8443/a", "http://10.9.9.9", "https://[::1]", "https://[::1]:8443"),
    *("https://[2001:db8::7]", "http://127.0.0.1:8765", "http://localhost:8765", "https://2.3.example"),
]


@pytest.mark.parametrize("url", NO_PROXY_URLS)
@pytest.mark.parametrize("no_proxy", [*NO_PROXY, *EXTENDED_NO_PROXY])
def test_no_proxy_matches_the_hosts_that_requests_matches(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str
) -> None:
    """The extended forms listed above match in addition."""
    monkeypatch.setenv("ALL_PROXY", "http://p:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    bypassed = requests.utils.should_bypass_proxies(url, no_proxy=None)
    assert (proxy_from_environment(url) is None) == bypassed or (not bypassed and no_proxy in EXTENDED_NO_PROXY)


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("10.0.0.0/8", "https://10.1.2.3:8443"),
        ("::1", "https://[::1]"),
        ("::1", "https://[::1]:8443"),
        ("[::1]", "https://[::1]"),
        ("[::1]:8443", "https://[::1]:8443"),
        ("2001:db8::/32", "https://[2001:db8::7]"),
        ("10.1.2.3:8443", "https://10.1.2.3:8443"),
    ],
)
def test_no_proxy_supports_networks_and_ipv6_addresses(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str
) -> None:
    """The address is reached without the proxy."""
    monkeypatch.setenv("ALL_PROXY", "http://p:3128")
    assert proxy_from_environment(url) == "http://p:3128"
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_from_environment(url) is None


def test_no_proxy_in_lower_case_takes_precedence_unless_it_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """`requests` and other tools use the same order."""
    monkeypatch.setenv("ALL_PROXY", "http://p:3128")
    monkeypatch.setenv("NO_PROXY", "h")
    for value, proxy in (("", None), ("other", "http://p:3128")):
        monkeypatch.setenv("no_proxy", value)
        assert proxy_from_environment("https://h") == proxy
        assert requests.utils.should_bypass_proxies("https://h", no_proxy=None) == (proxy is None)


@pytest.mark.parametrize("no_proxy", [True, False])
def test_settings_for_another_host_have_no_proxy_when_no_proxy_is_set(
    monkeypatch: pytest.MonkeyPatch, no_proxy: bool
) -> None:
    """Without `no_proxy`, the environment's proxy would be used for the host of a log file."""
    monkeypatch.setenv("HTTPS_PROXY", "http://p:3128")
    monkeypatch.setenv("NO_PROXY", "h")
    other = Settings("https://h", no_proxy=no_proxy).for_other_host("https://storage/log")
    assert other.proxy == (None if no_proxy else "http://p:3128")


def test_ca_bundle_from_environment_prefers_the_variables_of_requests(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The variables of requests and curl come first, then that of OpenSSL, then certifi."""
    assert ca_bundle_from_environment() == certifi.where()
    for name in reversed(BUNDLES):
        bundle = tmp_path / name
        bundle.touch()
        monkeypatch.setenv(name, str(bundle))
        assert ca_bundle_from_environment() == str(bundle)


def test_ca_bundle_from_environment_raises_when_the_file_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable and the file."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(ValueError, match=r"REQUESTS_CA_BUNDLE names '/nowhere/ca\.pem', which does not exist"):
        ca_bundle_from_environment()


def test_settings_secrets_include_all_forms_of_key_and_proxy_password() -> None:
    """The key, its Basic credentials, and the password of the proxy, percent-encoded and decoded."""
    settings = Settings(key="key", login="org", proxy="http://me:p%40ss@p")
    assert settings.secrets == ("key", "b3JnOmtleQ==", "p@ss", "p%40ss")
    assert Settings().secrets == ()


def test_for_other_host_rejects_an_unencrypted_url_when_polytomic_is_encrypted() -> None:
    """When the API itself uses plain HTTP, all URLs are accepted."""
    with pytest.raises(ValueError, match="unencrypted"):
        Settings("https://h").for_other_host("http://storage/log?signature")
    assert Settings("https://h").for_other_host("https://storage/log").base_url == "https://storage"
    assert Settings("http://h").for_other_host("http://storage/log").base_url == "http://storage"


def test_settings_redact_conceals_secrets_and_the_credentials_of_urls() -> None:
    """Everything before the @ of a URL is concealed."""
    settings = Settings(key="the/key", proxy="http://me:p%40ss@p")
    assert settings.redact("the/key the%2Fkey p@ss http://a:b@h/x") == "*** *** *** http://***@h/x"


def test_request_timeout_is_the_shorter_of_request_and_settings() -> None:
    """The timeout of a request cannot exceed that of the settings."""
    assert Settings(timeout=60).request_timeout(Request("GET", "/")) == 60
    assert Settings(timeout=60).request_timeout(Request("GET", "/", timeout=3)) == 3
    assert Settings(timeout=60).request_timeout(Request("GET", "/", timeout=300)) == 60
