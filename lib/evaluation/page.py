"""A self-contained HTML page: no scripts, nothing is loaded. All texts are escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import accumulate, pairwise

# Blue, green, orange, purple, red, grey: distinct in print and for most colour-blind readers.
COLORS = ('#3b78b5', '#5aa469', '#e8a33d', '#8a63a9', '#c8493a', '#8b939c')
STYLE = """
body { font: 15px/1.5 system-ui, 'DejaVu Sans', sans-serif; color: #1d2329; background: #fff; max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
p { margin: .3rem 0 .8rem; color: #444c55; max-width: 46rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; }
td, th { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid #e3e6ea; font-weight: normal; }
th { color: #5c6670; } td:first-child, th:first-child { text-align: left; overflow-wrap: anywhere; }
.facts td { text-align: left; overflow-wrap: anywhere; } .facts td:first-child { color: #5c6670; white-space: nowrap; }
.large td { font-size: 1.35rem; border: 0; text-align: left; } .large th { border: 0; text-align: left; }
.beside { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.2rem; }
figure { margin: 0; } figcaption { font-size: .85rem; color: #444c55; overflow-wrap: anywhere; }
figure img { max-width: 100%; max-height: 19rem; display: block; background: #eef0f2; }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .9em; border-radius: 2px; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, 'DejaVu Sans', sans-serif; fill: #444c55; }
"""
# The browser loads nothing, whatever the texts contain.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(title: str, sections: Sequence[str]) -> str:
    """A complete page. sections: HTML"""
    body = '\n'.join(sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n'
        f'<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n'
    )


def section(title: str, text: str, *parts: str) -> str:
    """A heading, a paragraph of text, and parts of HTML."""
    paragraph = f'<p>{escape(text)}</p>\n' if text else ''
    return f'<section>\n<h2>{escape(title)}</h2>\n{paragraph}' + '\n'.join(parts) + '\n</section>'


def beside(*parts: str) -> str:
    """Parts of HTML side by side where there is room."""
    return '<div class="beside">' + ''.join(f'<div>{part}</div>' for part in parts) + '</div>'


def _row(cells: Sequence[str], tag: str) -> str:
    return '<tr>' + ''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells) + '</tr>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], style: str = '') -> str:
    """A table. style: a class of STYLE"""
    top = f'<thead>{_row(head, "th")}</thead>' if head else ''
    lines = '\n'.join(_row(row, 'td') for row in rows)
    return f'<table class="{escape(style)}">{top}<tbody>\n{lines}\n</tbody></table>'


def legend(names: Sequence[str], colors: Sequence[str] = COLORS) -> str:
    """Names beside their colours."""
    keys = [f'<span class="key" style="background:{color}"></span>{escape(name)}' for name, color in zip(names, colors)]
    return '<p>' + ''.join(keys) + '</p>'


def curves(x: Iterable[float], lines: dict[str, Iterable[float]], labels: tuple[str, str]) -> str:
    """A plot with a legend: lines over x, both in 0 .. 1. labels: of the axes"""
    left, top, width, height = 46, 10, 420, 280
    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        at_x, at_y = left + tick * width, top + (1 - tick) * height
        parts += [
            f'<path d="M{left} {at_y:.1f}h{width}M{at_x:.1f} {top}v{height}" stroke="#e3e6ea"/>',
            f'<text x="{left - 6}" y="{at_y + 4:.1f}" text-anchor="end">{tick:g}</text>',
            f'<text x="{at_x:.1f}" y="{top + height + 16}" text-anchor="middle">{tick:g}</text>',
        ]
    for color, y in zip(COLORS, lines.values()):
        points = ' '.join(f'{left + a * width:.1f},{top + (1 - b) * height:.1f}' for a, b in zip(x, y))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
    middle = top + height / 2
    parts += [
        f'<text x="{left + width / 2}" y="{top + height + 34}" text-anchor="middle">{escape(labels[0])}</text>',
        f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">{escape(labels[1])}</text>',
    ]
    return _svg(left + width + 14, top + height + 42, parts) + legend(list(lines))


def stacked_bars(rows: dict[str, Sequence[float]], names: Sequence[str], colors: Sequence[str] = COLORS) -> str:
    """A bar for each row, divided by its ratios (sum 1, in the order of the names), with a legend."""
    left, width, step = 110, 420, 22
    parts = []
    for line, (name, values) in enumerate(rows.items()):
        y = line * step
        parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        for color, (start, end) in zip(colors, pairwise(accumulate(values, initial=0))):
            size = (end - start) * width
            parts.append(
                f'<rect x="{left + start * width:.2f}" y="{y + 3}" width="{size:.2f}" height="16" fill="{color}"/>'
            )
    return _svg(left + width + 10, len(rows) * step + 4, parts) + legend(names, colors)


def bars(values: dict[str, float], unit: str) -> str:
    """A bar for each name, labelled with its value; negative values have none."""
    left, width, step = 90, 300, 22
    longest = max([*values.values(), 1e-9])
    parts = []
    for line, (name, value) in enumerate(values.items()):
        y, size = line * step, max(value, 0) / longest * width
        parts += [
            f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{left}" y="{y + 3}" width="{size:.2f}" height="16" fill="{COLORS[0]}"/>',
            f'<text x="{left + size + 6:.2f}" y="{y + 15}">{value:.1f} {escape(unit)}</text>',
        ]
    return _svg(left + width + 90, len(values) * step + 4, parts)


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg {size} role="img">' + '\n'.join(parts) + '</svg>'


def figure(data: str | None, title: str, caption: str) -> str:
    """A picture (a data URL, or None) with its title and caption."""
    shown = f'<img src="{escape(data)}" alt="{escape(title)}">' if data else ''
    return f'<figure>{shown}<figcaption><b>{escape(title)}</b> {escape(caption)}</figcaption></figure>'


def cases(figures: Sequence[str]) -> str:
    """A grid of pictures, each as `figure` returns it."""
    return '<div class="cases">' + '\n'.join(figures) + '</div>'
