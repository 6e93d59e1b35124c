"""curves.png: loss, learning rate and validation metric of a training run."""

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cvpack.errors import InputError
from cvpack.files import atomic_write
from cvpack.logger import SAMPLES
from lib.utils import optional

SIZE = (8, 9)  # inches
DOTS_PER_INCH = 110
LOSS, RATE = 'total_loss', 'lr'
Curve = tuple[list[int], list[float]]


def read_scalars(folder: Path, names: tuple[str, ...], iteration: Callable[[int], int]) -> dict[str, Curve]:
    """Iterations and values of a training's TensorBoard scalars; names without values are left out.

    iteration: number of samples seen -> iteration, in batches of the present size
    """
    logging.getLogger('tensorboard').setLevel(logging.ERROR)  # it warns about every resumed run
    # It would drop points by their iterations, which change their meaning with the batch size; _latest drops them.
    sizes = {'scalars': 0, 'images': 1}
    events = EventAccumulator(str(folder), size_guidance=sizes, purge_orphaned_data=False).Reload()
    written = {name: events.Scalars(name) for name in (SAMPLES, *names) if name in events.Tags()['scalars']}
    seen = [iteration(round(event.value)) for event in written.pop(SAMPLES, [])]
    # Earlier versions did not write the number of samples.
    return {
        name: _latest(seen if len(seen) == len(points) else [event.step for event in points], points)
        for name, points in written.items()
        if points
    }


def _latest(iterations: list[int], points: list[Any]) -> Curve:
    """Without the points that were trained anew after a resume: those at or after a later point's iteration."""
    kept: list[tuple[int, float]] = []
    for x, event in zip(iterations, points):
        while kept and kept[-1][0] >= x:
            kept.pop()
        kept.append((x, event.value))
    return [x for x, _ in kept], [y for _, y in kept]


def draw_curves(file: Path, scalars: dict[str, Curve], name: str, validated: Curve) -> None:
    """Plots the loss and learning rate that read_scalars returns, and the validation metric of that name.

    validated: in per cent; empty without validation. Raises InputError where matplotlib is not installed, and OSError.
    """
    matplotlib = optional.load('matplotlib.figure', 'curves')
    rows = [(title, scalars[key]) for title, key in (('loss', LOSS), ('learning rate', RATE)) if key in scalars]
    rows += [(f'validation {name}, %', validated)] if validated[0] else []
    if not rows:
        raise InputError(f'there is nothing to plot in {file.parent}: train for some iterations')
    figure = matplotlib.Figure(SIZE, DOTS_PER_INCH, layout='constrained')
    for axes, (title, (iterations, values)) in zip(figure.subplots(len(rows), sharex=True, squeeze=False)[:, 0], rows):
        axes.plot(iterations, values, color='#2066a8', linewidth=1.2, marker='o' if len(values) < 50 else '', ms=3)
        axes.set_ylabel(title)
        axes.grid(color='0.9')
        axes.spines[['top', 'right']].set_visible(False)
        if title == 'loss' and min(values) > 0:
            axes.set_yscale('log')
    if validated[0]:
        best = max(range(len(validated[0])), key=validated[1].__getitem__)
        place = validated[0][best], validated[1][best]
        axes.plot(*place, 'o', color='#c03020')
        axes.set_title(f'best: {place[1]:.1f} at iteration {place[0]}', color='#c03020', fontsize=10)
    axes.set_xlabel('iteration')
    picture = io.BytesIO()
    figure.savefig(picture, format='png')
    with atomic_write(file) as stream:
        stream.write(picture.getvalue())
