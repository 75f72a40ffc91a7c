"""Plots of a grounding analysis and a self-contained HTML page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from projects.common.files.image_reader import read_image
from projects.common.visualization import PRED_COLOR

from ..datasets.transforms import LoadGroundingAnnotations
from ..visualization import GroundingVisualizer
from .grounding_analysis import Group, Record, predicted, true_object
from .returned_boxes import COLUMNS, Returned, rows_of

__all__ = ['plot_groups', 'write_page']

_BAR = '#7a9cc6'
_MASK = '#' + ''.join(f'{value:02x}' for value in PRED_COLOR)
_INK = '#19191e'
_LEGEND = ('accuracy at IoU 0.5', '95 % interval', 'mean mask IoU', 'all sentences')
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #19191e; background: #fff;
       max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
p { margin: .3rem 0; } .note { color: #69696f; }
img { max-width: 100%; height: auto; display: block; }
.tables { display: grid; grid-template-columns: repeat(auto-fill, minmax(480px, 1fr));
          gap: 1.4rem; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; align-self: start;
        font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .2rem; }
th, td { padding: .18rem .5rem; border-bottom: 1px solid #e3e3e8; text-align: right; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 500; color: #69696f; }
figure { margin: 0 0 1.6rem; padding: .8rem; border: 1px solid #e3e3e8; border-radius: 8px; }
figcaption { color: #69696f; margin: .4rem 10px 0; overflow-wrap: anywhere; }
"""


def plot_groups(groups: Mapping[str, Sequence[Group]], overall: Group) -> Figure:
    """Plot the accuracy of every group as bars with 95 % intervals, and mean mask IoU as dots.

    Args:
        groups: The result of :func:`analyze`.
        overall: Metrics of all sentences, drawn as a line.
    """
    columns = 2
    titles = list(groups)
    rows = [titles[i : i + columns] for i in range(0, len(titles), columns)]
    heights = [max(len(groups[title]) for title in row) for row in rows]
    figure = Figure(figsize=(11.5, 0.34 * sum(heights) + 0.95 * len(heights) + 0.4), dpi=110)
    grid = figure.add_gridspec(len(rows), columns, height_ratios=[h + 0.2 for h in heights])
    for i, row in enumerate(rows):
        for j, title in enumerate(row):
            axes = figure.add_subplot(grid[i, j])
            _plot_one(axes, groups[title], overall, heights[i])
            axes.set_title(title, loc='left', fontsize=11, fontweight='bold', color=_INK)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda k: _LEGEND.index(labels[k]))
    figure.legend(
        [handles[k] for k in order], [labels[k] for k in order], loc='upper left',
        ncols=len(labels), frameon=False, fontsize=9,
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.34 / figure.get_figheight()), h_pad=1.4, w_pad=2)
    return figure


def _plot_one(axes, members: Sequence[Group], overall: Group, rows: int) -> None:
    """Draw one bar per group, starting at the top of ``rows`` positions."""
    y = np.arange(len(members))
    accuracy = np.array([group.accuracy for group in members])
    reach = np.array(
        [(group.accuracy - group.low, group.high - group.accuracy) for group in members]
    ).T.clip(min=0)
    axes.barh(y, accuracy, height=0.64, color=_BAR, label=_LEGEND[0])
    axes.errorbar(
        accuracy, y, xerr=reach, fmt='none', ecolor=_INK, elinewidth=1, capsize=2.5,
        label=_LEGEND[1],
    )  # fmt: skip
    masks = [(i, group.mask_miou) for i, group in enumerate(members) if group.mask_miou is not None]
    if masks and any(group.box_miou is not None for group in members):
        places, values = zip(*masks)
        axes.scatter(values, places, s=26, color=_MASK, zorder=3, label=_LEGEND[2])
    axes.axvline(overall.accuracy, color=_INK, linewidth=1, linestyle=':', label=_LEGEND[3])
    axes.set_yticks(y, [_short(group.name) for group in members], fontsize=9)
    for i, group in enumerate(members):
        axes.text(103, i, f'{group.count:,}', va='center', fontsize=8, color='#69696f')
    axes.text(
        1.03, 1.02, 'sentences', transform=axes.transAxes, va='bottom', fontsize=8, color='#69696f'
    )
    axes.set(xlim=(0, 100), ylim=(rows - 0.4, -0.6))
    ticks = range(0, 101, 20)
    axes.set_xticks(ticks, [f'{tick} %' for tick in ticks], fontsize=8)
    axes.set_axisbelow(True)
    axes.grid(axis='x', color='#e3e3e8', linewidth=0.8)
    for side in ('top', 'right', 'left'):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis='y', length=0)


def _short(name: str) -> str:
    name = name.replace('$', r'\$')  # matplotlib typesets text between two $ as math
    return name if len(name) <= 24 else name[:23] + '…'


def write_page(
    path: str | Path,
    title: str,
    overall: Group,
    groups: Mapping[str, Sequence[Group]],
    figure: Figure,
    failures: Sequence[Record],
    returned: Mapping[str, Sequence[Returned]] | None = None,
) -> None:
    """Write one HTML file that embeds the plots, tables and drawn failures.

    Args:
        path: File to write.
        title: Title of the page. Any text is allowed.
        overall: Metrics of all sentences.
        groups: The result of :func:`analyze`.
        figure: The result of :func:`plot_groups`.
        failures: The result of :func:`worst_failures`. Their images are read.
        returned: The result of :func:`.count_returned`.

    Raises:
        FileNotFoundError: If the image of a failure does not exist.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png')
    figures = [f'{overall.count:,} sentences', f'accuracy at IoU 0.5: {overall.accuracy:.2f} %']
    for name, value in (('box', overall.box_miou), ('mask', overall.mask_miou)):
        if value is not None:
            figures.append(f'mean {name} IoU {value:.2f} %')
    shown = '\n'.join(_failure(record) for record in failures)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
<p>{' · '.join(figures)}</p>
<h2>Accuracy by group</h2>
{_image(buffer.getvalue(), 'png', 'accuracy of each group of sentences')}
<p class="note">Bars are accuracies, whiskers their 95 % intervals (Wilson), the dotted line is all
sentences. A sentence with direction words of two kinds counts in both.</p>
<div class="tables">
{''.join(_table(name, members) for name, members in groups.items())}
</div>
{''.join(_returned_table(name, members) for name, members in (returned or {}).items())}
<h2>{len(failures)} worst failures</h2>
<p class="note">IoU below 0.5: least overlap first, then the most confident; one sentence an
object.</p>
{shown or '<p>There are none.</p>'}
</body></html>
"""
    Path(path).write_text(page, encoding='utf-8', errors='backslashreplace')


def _table(title: str, members: Sequence[Group]) -> str:
    def number(value: float | None) -> str:
        return '–' if value is None else f'{value:.1f}'

    rows = ''.join(
        f'<tr><td>{html.escape(group.name)}</td><td>{group.count:,}</td>'
        f'<td>{group.accuracy:.1f}</td><td>{group.low:.1f} – {group.high:.1f}</td>'
        f'<td>{number(group.box_miou)}</td><td>{number(group.mask_miou)}</td></tr>'
        for group in members
    )
    head = ''.join(
        f'<th>{name}</th>'
        for name in ('', 'sentences', 'accuracy', '95 % interval', 'box mIoU', 'mask mIoU')
    )
    return f'<table><caption>{html.escape(title)}</caption><tr>{head}</tr>{rows}</table>'


def _returned_table(title: str, members: Sequence[Returned]) -> str:
    head = ''.join(f'<th>{name}</th>' for name in ('', *COLUMNS))
    rows = ''.join(
        f'<tr>{"".join(f"<td>{html.escape(cell)}</td>" for cell in row)}</tr>'
        for row in rows_of(members)
    )
    return f"""<h2>Boxes returned</h2>
<p class="note">Boxes above the model's threshold, while every sentence names one object. A box is
right if its IoU is at least 0.5; the first is the one with the highest score.</p>
<table><caption>{html.escape(title)}</caption><tr>{head}</tr>{rows}</table>
"""


def _failure(record: Record) -> str:
    sample = record.sample
    image = read_image(sample['img_path'], channel_order='rgb')
    drawn = DetDataSample(metainfo=dict(text=sample['text']))
    drawn.gt_instances = _instances(*true_object(sample, LoadGroundingAnnotations()))
    drawn.pred_instances = _instances(*predicted(record.prediction))
    score_map = record.prediction.get('pred_score_map')
    if score_map is not None:
        drawn.set_field(np.array(score_map), 'pred_score_map')
    picture = GroundingVisualizer(max_side=420).draw(image, drawn)
    encoded = cv2.imencode('.jpg', picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    notes = [f'score {record.score:.2f}', f'object {record.size:.1f} % of the image']
    notes += [f'{key} {sample[key]}' for key in ('category', 'kind') if sample.get(key)]
    count = record.prediction.get('pred_num_returned')
    if count is not None:
        notes.append(f'{count} boxes returned' if count != 1 else '1 box returned')
    notes.append(str(sample['img_path']))
    return (
        f'<figure>{_image(encoded, "jpeg", sample["text"])}'
        f'<figcaption>{html.escape(" · ".join(notes))}</figcaption></figure>'
    )


def _instances(box: list[float] | None, mask: np.ndarray | None) -> InstanceData:
    """Return one object with the fields that it has."""
    fields = dict(bboxes=box, masks=mask)
    return InstanceData(**{key: np.array([v]) for key, v in fields.items() if v is not None})


def _image(data: bytes, kind: str, text: str) -> str:
    encoded = base64.b64encode(data).decode()
    return f'<img src="data:image/{kind};base64,{encoded}" alt="{html.escape(text)}">'
