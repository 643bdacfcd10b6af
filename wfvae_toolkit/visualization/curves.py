"""Curves whose cost does not grow with the length of the run."""

from wfvae_toolkit.utils.files import atomic_write


class Curve:
    """At most ``2 * size`` points of a growing series. When it is full, each two neighbours become their mean."""

    def __init__(self, size=500):
        self.size = size
        self.merged = 1  # points of the series per stored point
        self.x, self.y = [], []
        self._pending = []

    def add(self, x, y):
        """Append a finite point; x grows."""
        self._pending.append((x, y))
        if len(self._pending) < self.merged:
            return
        self.x.append(sum(x for x, _ in self._pending) / self.merged)
        self.y.append(sum(y for _, y in self._pending) / self.merged)
        self._pending = []
        if len(self.x) >= 2 * self.size:
            self.x = [(a + b) / 2 for a, b in zip(self.x[::2], self.x[1::2], strict=True)]
            self.y = [(a + b) / 2 for a, b in zip(self.y[::2], self.y[1::2], strict=True)]
            self.merged *= 2


def draw_curves(panels, path, mark=None):
    """Write a PNG with one panel per group of curves.

    Args:
        panels (dict[str, dict[str, Curve]]): title -> label -> curve; panels without points are left out.
        path (Path): PNG, written atomically.
        mark (tuple[int, str]): iteration of a vertical line and its label.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels = {title: curves for title, curves in panels.items() if any(curve.x for curve in curves.values())}
    figure = Figure(figsize=(9, 0.4 + 2.4 * max(1, len(panels))), layout='constrained')
    FigureCanvasAgg(figure)
    for axes, (title, curves) in zip(figure.subplots(max(1, len(panels)), 1, sharex=True, squeeze=False)[:, 0],
                                     panels.items(), strict=False):
        for label, curve in curves.items():
            axes.plot(curve.x, curve.y, label=label, linewidth=1.2, marker='.' if len(curve.x) < 30 else None)
        values = [y for curve in curves.values() for y in curve.y]
        if min(values) > 0 and max(values) > 10 * min(values):
            axes.set_yscale('log')
        else:
            axes.ticklabel_format(axis='y', useOffset=False)
            if max(values) - min(values) <= 1e-6 * abs(max(values)):  # one value, or equal ones but for rounding
                room = 0.05 * abs(max(values)) or 1
                axes.set_ylim(min(values) - room, max(values) + room)
        if mark is not None:
            axes.axvline(mark[0], color='0.4', linestyle='--', linewidth=1)
            late = mark[0] > sum(axes.get_xlim()) / 2
            axes.annotate(mark[1], (mark[0], 0.0), xycoords=('data', 'axes fraction'), fontsize=7, color='0.3',
                          textcoords='offset points', xytext=(-3 if late else 3, 4), ha='right' if late else 'left')
        axes.set_title(title, fontsize=9, loc='left')
        axes.grid(alpha=0.25)
        # Beside the title, where the legend hides no curve.
        axes.legend(fontsize=7, ncols=4, loc='lower right', bbox_to_anchor=(1.0, 0.98), frameon=False)
    points = {x for curves in panels.values() for curve in curves.values() for x in curve.x}
    figure.axes[-1].set_xlabel('iteration')
    figure.axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(points) == 1:
        figure.axes[-1].set_xlim(min(points) - 1, max(points) + 1)
    with atomic_write(path) as file:
        figure.savefig(file, format='png', dpi=110)
