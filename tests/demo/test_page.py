from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import PIL.Image
import pytest

from meddiffusers.demo.page import Section, write_page


class Page(HTMLParser):
    """Collects the attributes of images, the texts, and the tags that are opened and closed."""

    VOID = ("meta", "img")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.images += [dict(attrs)] if tag == "img" else []
        self.open += [] if tag in self.VOID else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts += [data.strip()] if data.strip() else []


ODD = 'a < b & "c" <script>'
FIRST = Section(
    key="one",
    title=ODD,
    text="Title",
    figures={f"caption {ODD}": PIL.Image.new("L", (3, 2)), "second": PIL.Image.new("RGB", (4, 4), "red")},
    table=[["asked", ODD], ["1", "2"]],
    metrics={"error_px": 0.25},
    seconds=1.26,
)
SECOND = Section(key="two", title="Two", text="Nothing to see", figures={"second": PIL.Image.new("L", (5, 5))})


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(write_page([FIRST, SECOND], tmp_path / "new" / "demo").read_text(encoding="utf-8"))


def test_text_stays_text(page: Page) -> None:
    assert page.texts.count(ODD) == 2  # title and table
    assert f"caption {ODD}" in page.texts
    assert "script" not in page.open


def test_tags_are_balanced(page: Page) -> None:
    assert page.open == []


def test_every_image_is_there(page: Page, tmp_path: Path) -> None:
    sizes = [PIL.Image.open(tmp_path / "new" / "demo" / str(image["src"])).size for image in page.images]
    assert sizes == [(3, 2), (4, 4), (5, 5)]
    assert [image["alt"] for image in page.images] == [f"caption {ODD}", "second", "second"]


def test_metrics_of_all_sections(page: Page, tmp_path: Path) -> None:
    metrics = json.loads((tmp_path / "new" / "demo" / "metrics.json").read_text(encoding="utf-8"))
    assert "torch" in metrics.pop("hardware")
    assert metrics == {"one": {"error_px": 0.25, "seconds": 1.3}, "two": {"seconds": 0.0}}


def test_the_page_says_what_it_is_not(page: Page) -> None:
    assert any("not a medical device" in text for text in page.texts)


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    write_page([FIRST], tmp_path)
    html = write_page([SECOND], tmp_path).read_text(encoding="utf-8")
    assert "Two" in html
    assert "caption" not in Page(html).texts
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
