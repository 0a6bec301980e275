"""The report's page: one HTML file with its pictures, its script and its numbers inside, and nothing from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from infield.core.json_text import to_json
from infield.pipelines.report.words import Row

POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""What a browser may load for the page: what lies in it."""

COLUMNS = ("quantity", "value", "note")


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Arguments:
        heading: Above it; empty to continue under the last heading.
        png: Its data address.
        caption: What it shows; also the alternative text.
        width: Fraction of the page's width.
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
    fields: Mapping[str, Any] | None = None,
) -> str:
    """The page as text; whatever comes from files is escaped.

    Arguments:
        title: Of the page.
        subtitle: A line under it.
        warnings: Boxes above all else.
        paragraphs: Text.
        pictures: Figures in order.
        tables: Rows by heading.
        fields: What the reader may browse, of `browser.fields_to_browse`.
    """
    boxes = [f'<p class="warning" role="note"><strong>Warning.</strong> {escape(text)}</p>' for text in warnings]
    body = [
        '<button id="theme" type="button">Dark</button>',
        "<main>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="subtitle">{escape(subtitle)}</p>',
        *boxes,
        *(f"<p>{escape(text)}</p>" for text in paragraphs),
        *([] if fields is None else [_browser(fields)]),
        *(_figure(picture) for picture in pictures),
        *(_table(heading, rows) for heading, rows in tables.items()),
        "</main>",
        f"<script>{_part('page.js')}</script>",
    ]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>{_part('page.css')}</style>\n</head>\n<body>",
            *body,
            "</body>\n</html>\n",
        ]
    )


@cache
def _part(name: str) -> str:
    return (files(__package__ or "") / name).read_text(encoding="utf-8")


def _browser(fields: Mapping[str, Any]) -> str:
    thinned = "" if fields["step"] == 1 else f" Along each axis one point of {fields['step']} is shown."
    text = to_json(fields, separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<h2 id="browse">Browse</h2>\n<p>Mean, spread, quantiles and samples, two at a time; the pointer or the arrow '
        f"keys choose the point that is read.{thinned}</p>\n"
        '<div id="browser"><noscript>Without scripts, see the figures below.</noscript></div>\n'
        f'<script type="application/json" id="fields">{text}</script>'
    )


def _figure(picture: Picture) -> str:
    heading = f"<h2>{escape(picture.heading)}</h2>\n" if picture.heading else ""
    caption = escape(picture.caption)
    image = f'<img style="--share: {picture.width:.3f}" src="{picture.png}" alt="{caption}">'
    region = f'<div tabindex="0" role="region" aria-label="{escape(picture.heading or "figure")}, scrolls sideways">'
    return f"{heading}<figure>{region}{image}</div><figcaption>{caption}</figcaption></figure>"


def _table(heading: str, rows: Sequence[Row]) -> str:
    names = "".join(
        f'<th scope="col" role="columnheader" aria-sort="none"><button type="button">{name}</button></th>'
        for name in COLUMNS
    )
    lines = [
        f'<tr role="row"><th scope="row" role="rowheader">{escape(name)}</th><td role="cell">{escape(value)}</td>'
        f'<td role="cell" class="note">{escape(note)}</td></tr>'
        for name, value, note in rows
    ]
    return (
        f'<h2>{escape(heading)}</h2>\n<table role="table" aria-label="{escape(heading)}">\n'
        f'<thead role="rowgroup"><tr role="row">{names}</tr></thead>\n<tbody role="rowgroup">\n'
        + "\n".join(lines)
        + "\n</tbody></table>"
    )
