"""The tables of a report say how pixels are distributed."""

import io
import json

import pytest
from rich.console import Console

from experiments.measure import report
from lavae_jax import pretrained


def _printed(**model):
    """Prints the shipped report as if its model had other pixels."""
    value = json.loads((pretrained.FOLDER / "multi_dsprites/report.json").read_text())
    value["config"]["model"].update(model)
    value["noise"] = 0.125
    value["splits"][0]["bounds"][-1]["negative_log_p"]["mean"] = 12_288.0
    out = io.StringIO()
    report.print_tables(
        report.typed(report.Report, value), Console(file=out, width=300)
    )
    return " ".join(out.getvalue().split())


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        ("bernoulli", "pixel means lie in [ε, 1 - ε], ε = 0.125"),
        ("gaussian", "σ = 0.125, and -log p(x) is of their density"),
        # 12,288 pixels and channels have 1 nat each, 1 / ln 2 bits.
        ("discretised", "rounded to 8 bits: test has 1.443 bits per pixel and channel"),
    ],
)
def test_pixels(pixels, said):
    """Nats of other pixels are not nats of binary ones, and the table says so."""
    assert said in _printed(pixels=pixels)


def test_gaps_of_earlier_reports():
    """What was not measured when the report was written is a gap in the table."""
    path = pretrained.FOLDER / "multi_mnist_10k" / "report.json"
    value = json.loads(path.read_text())
    for split in value["splits"]:
        split["truth"]["segments"]["recall"] = None
    out = io.StringIO()
    report.print_tables(
        report.typed(report.Report, value), Console(file=out, width=300)
    )
    (row,) = [line for line in out.getvalue().splitlines() if "objects found" in line]
    assert row.count("–") == len(value["splits"])
