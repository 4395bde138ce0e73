"""Where the texts of a figure lie, as it is drawn."""

from matplotlib.backends.backend_agg import FigureCanvasAgg


def boxes(figure):
    """The box of every text in dots, all of them within the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for part in (figure, *figure.subfigs) for text in part.texts]
    # Matplotlib has no public way to the title of a figure.
    texts += [part._suptitle for part in (figure, *figure.subfigs)]
    for panel in figure.axes:
        texts += [panel.title, *panel.texts]
    shown = {id(text): text for text in texts if text and text.get_text()}
    found = [text.get_window_extent() for text in shown.values()]
    for box in found:
        low, high = figure.bbox.min, figure.bbox.max
        assert (box.min >= low).all() and (box.max <= high).all(), box
    return found
