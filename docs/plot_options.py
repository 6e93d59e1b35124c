"""Plots docs/options.png, validations while training: python docs/plot_options.py NAME=OUTPUT_DIR ..."""

import sys
from pathlib import Path

from matplotlib import figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.evaluation.validation import read_rows

COLORS = ('#7c8a99', '#8e2440', '#5f8fbf', '#e3ad62')


def main() -> None:
    runs = [argument.partition('=') for argument in sys.argv[1:]]
    canvas = figure.Figure((10, 4), 100, layout='constrained')
    for axes, metric in zip(canvas.subplots(1, 2), ('AP', 'PCK@0.05')):
        for (name, _, folder), color in zip(runs, COLORS, strict=False):
            rows = read_rows(Path(folder), 'AP')
            x, y = ([row['samples'] / 1000 for row in rows], [100 * row['metrics'][metric] for row in rows])
            axes.plot(x, y, 'o-', color=color, label=name, ms=4)
            axes.annotate(f'{y[-1]:.1f}', (x[-1], y[-1]), (0, 7), textcoords='offset points', ha='center', color=color)
        axes.set(xlabel='samples, thousands', title=f'{metric}, %')
        axes.grid(color='0.9')
        axes.spines[['top', 'right']].set_visible(False)
    axes.legend(loc='lower right', frameon=False)
    canvas.savefig(Path(__file__).with_name('options.png'))


if __name__ == '__main__':
    main()
