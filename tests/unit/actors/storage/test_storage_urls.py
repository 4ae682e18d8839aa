"""Which URLs are asked, how they are shown, and which sources they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from actors.storage.sources import FileSpec, HttpSpec, spec_of_url
from actors.storage.sources.addresses import Depth
from actors.storage.sources.urls import check_redirect, check_web_url, place_of, shown


@pytest.mark.parametrize(
    "url",
    [
        *("https://models.example/a.gguf", "http://10.0.0.7:8080/a", "http://[::1]:80/a"),
        *("https://models.example", "https://models.example/a%20b?signed=x&y=z", "HTTP://a/b"),
    ],
)
def test_what_can_be_asked_stays_as_it_is_written(url: str) -> None:
    assert check_web_url(url) == url
    assert HttpSpec(url=url).url == url


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://models.example/a", "https://"),
        ("models.example/a", "https://"),
        ("https:///a", "no host"),
        ("https://me@models.example/a", "name or password"),
        ("https://me:pw@models.example/a", "name or password"),
        ("https://models.example/a b", "%XX"),
        ("https://models.example/a\nb", "%XX"),
        ("https://models.example/ä", "%XX"),
        ("https://models.example\\@other.example/", "%XX"),
        ("https://models.example/a#b", "behind #"),
        ("https://models.example:99999/a", "[Pp]ort"),
        ("https://models.example:0/a", "port 0"),
        ("https://models.example:x/a", "[Pp]ort"),
        ("https://[::1/a", "IPv6"),
        ("https://models.example/" + "a" * 8000, "8000 characters"),
    ],
)
def test_what_cannot_is_refused_with_what_is_wrong(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_web_url(url)
    with pytest.raises(ValidationError, match=problem):
        HttpSpec(url=url)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_a_url_or_a_value_error(text: str) -> None:
    for url in (text, f"https://{text}", f"https://host/{text}"):
        try:
            check_web_url(url)
        except ValueError:
            continue
        assert "@" not in url.split("/")[2]


def test_what_may_give_access_is_not_shown() -> None:
    assert shown("https://a/b?token=secret") == "https://a/b?…"
    assert shown("https://me:secret@a/b") == "https://…@a/b"
    assert shown("https://a/b") == "https://a/b"
    assert HttpSpec(url="https://a/b?token=secret").where() == "https://a/b?…"


def test_a_place_is_the_same_however_it_is_signed() -> None:
    assert place_of("https://a/b?sig=1") == place_of("https://a/b?sig=2") == "https://a/b"


def test_a_redirect_may_go_as_deep_as_the_first_address_was() -> None:
    check_redirect("http://a/", "http://a/", "http://127.0.0.1/", Depth.LOCAL)
    check_redirect("http://a/", "http://a/", "http://10.0.0.1/", Depth.PRIVATE)
    check_redirect("http://a/", "http://a/", "https://b/", Depth.PUBLIC)


def test_urls_in_a_manifest_are_sources_of_their_scheme() -> None:
    assert spec_of_url("https://a/b.bin") == HttpSpec(url="https://a/b.bin")
    assert spec_of_url("http://a/b.bin") == HttpSpec(url="http://a/b.bin")
    assert spec_of_url("file:///b.bin") == FileSpec(path="/b.bin")
    base = "https://models.example/v1/manifest.json"
    assert spec_of_url("sub/b.bin", base) == HttpSpec(url="https://models.example/v1/sub/b.bin")
    with pytest.raises(ValueError, match="known: file, http, https"):
        spec_of_url("gopher://a/b")
