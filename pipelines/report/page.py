"""The report's page: one HTML file with its pictures inside, nothing from outside, nothing that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from infield.pipelines.report.words import Row

CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 2rem 1.25rem 4rem; background: #fff; color: #222;
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
p { max-width: 46rem; margin: .7rem 0; }
.subtitle { color: #666; margin: 0 0 1.2rem; }
.warning { max-width: 46rem; border-left: 4px solid #d55e00; background: #fdf1e8;
           padding: .6rem .9rem; margin: .8rem 0; }
figure { margin: 1rem 0 1.8rem; }
figure div { overflow-x: auto; }
img { display: block; width: calc(100% * var(--share)); height: auto; }
figcaption { color: #555; font-size: .9rem; max-width: 46rem; margin-top: .4rem; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
th, td { text-align: left; vertical-align: top; padding: .32rem .9rem .32rem 0; border-bottom: 1px solid #e6e6e6; }
th { font-weight: 400; color: #555; width: 17rem; }
td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
td.note { color: #666; width: 40%; }
@media (max-width: 700px) {
  img { width: max(100% * var(--share), 760px * var(--share)); }
  tr { display: block; border-bottom: 1px solid #e6e6e6; padding: .3rem 0; }
  th, td, td.note { display: block; width: auto; border: 0; padding: 0; }
  td.note:empty { display: none; }
}
@media print { body { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Arguments:
        heading: Above it; empty to continue under the last heading.
        png: Its data address.
        caption: What it shows; also the alternative text.
        width: Share of the page's width.
    """

    heading: str
    png: str
    caption: str
    width: float = 1.0


def page(
    title: str,
    subtitle: str,
    warnings: Sequence[str],
    paragraphs: Sequence[str],
    pictures: Sequence[Picture],
    tables: Mapping[str, Sequence[Row]],
) -> str:
    """The page as text; whatever comes from files is escaped."""
    boxes = [f'<p class="warning" role="note"><strong>Warning.</strong> {escape(text)}</p>' for text in warnings]
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="subtitle">{escape(subtitle)}</p>',
        *boxes,
        *(f"<p>{escape(text)}</p>" for text in paragraphs),
        *(_figure(picture) for picture in pictures),
        *(_table(heading, rows) for heading, rows in tables.items()),
    ]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>",
            *body,
            "</body>\n</html>\n",
        ]
    )


def _figure(picture: Picture) -> str:
    heading = f"<h2>{escape(picture.heading)}</h2>\n" if picture.heading else ""
    image = f'<img style="--share: {picture.width:.3f}" src="{picture.png}" alt="{escape(picture.caption)}">'
    return f"{heading}<figure><div>{image}</div><figcaption>{escape(picture.caption)}</figcaption></figure>"


def _table(heading: str, rows: Sequence[Row]) -> str:
    lines = [
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td><td class="note">{escape(note)}</td></tr>'
        for name, value, note in rows
    ]
    return f"<h2>{escape(heading)}</h2>\n<table>\n" + "\n".join(lines) + "\n</table>"
