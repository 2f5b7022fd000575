"""Write the demo's page: sections of text, figures and tables as HTML, metrics as JSON."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import PIL.Image

from meddiffusers.evaluation.results import hardware
from meddiffusers.utils.atomic import write_json, write_text

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 3rem; border-top: 1px solid #d0d7de; padding-top: 1.5rem; }
figure { margin: 1.5rem 0; } img { max-width: 100%; } figcaption { color: #57606a; font-size: .9rem; }
table { border-collapse: collapse; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #d0d7de; text-align: right; }
th:first-child, td:first-child { text-align: left; } .note { color: #57606a; }
"""


@dataclass(frozen=True)
class Section:
    """The part of the page on one system.

    Args:
        key: name in `metrics.json` and in the names of the figures' files.
        title: heading.
        text: paragraph below the heading.
        figures: images by caption.
        table: a header row and further rows.
        metrics: numbers for `metrics.json`.
        seconds: time that the section took.
    """

    key: str
    title: str
    text: str
    figures: Mapping[str, PIL.Image.Image]
    table: Sequence[Sequence[str]] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def write_page(sections: Sequence[Section], folder: Path) -> Path:
    """Write `index.html`, its figures and `metrics.json` into the folder; returns the path of the page."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    body = "\n".join(_section(section, folder) for section in sections)
    page = folder / "index.html"
    write_text(
        page,
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>meddiffusers demo</title>\n'
        f"<style>{_STYLE}</style>\n<h1>meddiffusers</h1>\n"
        f"<p>Generative models for medical imaging. Made on {html.escape(hardware())}. "
        f"For research and teaching; not a medical device.</p>\n{body}\n</html>\n",
    )
    metrics = {section.key: {**section.metrics, "seconds": round(section.seconds, 1)} for section in sections}
    write_json(folder / "metrics.json", {"hardware": hardware(), **metrics})
    return page


def _section(section: Section, folder: Path) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>", f"<p>{html.escape(section.text)}</p>"]
    for i, (caption, image) in enumerate(section.figures.items()):
        name = f"figures/{section.key}-{i}.png"
        image.save(folder / name)
        text = html.escape(caption)
        parts.append(f'<figure><img src="{name}" alt="{text}"><figcaption>{text}</figcaption></figure>')
    if section.table:
        header, *rows = section.table
        parts.append("<table>" + _row(header, "th") + "".join(_row(row, "td") for row in rows) + "</table>")
    return "\n".join([*parts, f'<p class="note">{section.seconds:.1f} seconds.</p>'])


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
