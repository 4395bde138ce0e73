"""How the runs of ablations went, as a figure."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.ablations_results import Result


def draw(runs: Mapping[str, Sequence[Result]]) -> Figure:
    """The ELBO in training and the counts of held-out scenes, over the steps.

    Args:
      runs: Those of some settings by name, a line each; those of the base come first
        and are black.
    """
    figure = Figure(figsize=(8, 2.8), dpi=90, layout="constrained")
    nats, counts = figure.subplots(1, 2)
    for index, (name, results) in enumerate(runs.items()):
        colour = "black" if index == 0 else f"C{(index - 1) % 10}"
        for seed, result in enumerate(results):
            style = {"color": colour, "lw": 0.9, "label": None if seed else name}
            curve = result.curve
            nats.plot(curve.steps, [-elbo for elbo in curve.elbo], **style)
            counts.plot(curve.held_out_steps, curve.count_accuracy, **style)
    nats.set_yscale("log")
    _label(nats, "−ELBO in training, nats per image")
    _label(counts, "held-out scenes counted right")
    handles, labels = nats.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=6)
    return figure


def _label(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=8)
    axes.set_xlabel("step", fontsize=7)
    axes.tick_params(labelsize=6, which="both")
