"""curves.png: loss, learning rate and validation metric of a training run."""

import io
import logging
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cvpack.errors import InputError
from cvpack.files import atomic_write
from lib.utils import optional

SIZE = (8, 9)  # inches
DOTS_PER_INCH = 110
LOSS, RATE = 'total_loss', 'lr'
Curve = tuple[list[int], list[float]]


def read_scalars(folder: Path, names: tuple[str, ...]) -> dict[str, Curve]:
    """Iterations and values of TensorBoard scalars; of iterations repeated after a resume, the last value."""
    logging.getLogger('tensorboard').setLevel(logging.ERROR)  # it warns about every resumed run
    events = EventAccumulator(str(folder), size_guidance={'scalars': 0, 'images': 1}).Reload()
    there = [name for name in names if name in events.Tags()['scalars']]
    values = {name: {event.step: event.value for event in events.Scalars(name)} for name in there}
    return {name: (sorted(points), [points[step] for step in sorted(points)]) for name, points in values.items()}


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
