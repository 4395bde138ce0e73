"""Makes the paper's Table 1 and figures, and counts new scenes.

python -m experiments.paper --out=DIR

uses the released weights, or with --workdir=DIR,DIR2 runs of experiments.train that
experiments.evaluate has measured. It writes the page DIR/report.md, and a folder of
pictures for each data set. Models that have not been trained are gaps in the table.
"""

import math
import pathlib
from collections.abc import Sequence

from absl import flags
from tqdm import auto as tqdm

from datasets import load
from experiments import cli, evaluate
from experiments.measure import report
from experiments.paper import figures, table
from experiments.paper.subject import Counts, Settings, load_subject, measure_counts
from experiments.paper.table import BASELINE, LAVAE, TITLES, Models
from lavae_jax import plotting

_HEADINGS = {
    "inference_3": "Inference and reconstruction, up to 3 objects (Figures 1 and 5)",
    "inference_7": "Inference and reconstruction, 7 objects",
    "samples": "Samples from the prior (Figures 2, 4 and 10)",
    "samples_5_6": "Samples with p(n) replaced (Figure 9)",
    "locations_3": "Location traversal, 3 objects (Figure 7)",
    "locations_7": "Location traversal, 7 objects (Figures 3, 8 and 11)",
    "appearances_3": "Appearance traversal, 3 objects (Figure 7)",
    "appearances_7": "Appearance traversal, 7 objects (Figures 3, 8 and 11)",
    "swaps_3": "Object swaps, 3 objects (Figure 6)",
    "swaps_7": "Object swaps, 7 objects (Figures 3 and 11)",
}
"""The headings of our figures, with the numbers of such figures in the paper."""


def make(
    models: Sequence[Models], out: str | pathlib.Path, settings: Settings
) -> pathlib.Path:
    """Makes the table, the figures and the page with them, and returns its path."""
    models, out = table.complete(models), pathlib.Path(out)
    trained = {(one.dataset, one.family): one for one in models if one.reports}
    datasets = [dataset for dataset, family in trained if family == LAVAE]
    if unknown := sorted(set(datasets) - load.BUILDERS.keys()):
        raise cli.UserError(
            "the figures need scenes whose objects are known, such as those of"
            f" {', '.join(TITLES)}: got models of {', '.join(unknown)}."
        )
    with cli.user_errors(ValueError, OSError):
        out.mkdir(parents=True, exist_ok=True)
        for dataset in datasets:
            load.builder(dataset, *settings.folders)
    versions = ", ".join(f"{name} {x}" for name, x in evaluate.versions().items())
    parts = [
        "# Table 1 and the figures of the LAVAE paper\n",
        f"Made by `python -m experiments.paper` (seed {settings.seed}, the first"
        f" {settings.num_images} images of each split) with {versions}.\n",
        "## Table 1\n",
        table.markdown(models),
    ]
    for dataset in datasets:
        baseline = trained.get((dataset, BASELINE))
        parts += _section(trained[dataset, LAVAE], baseline, settings, out)
    page = out / "report.md"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


def _section(lavae, baseline, settings, out):
    """Makes all pictures and numbers of one data set, and writes its section."""
    dataset, title = lavae.dataset, lavae.title
    folder = dataset.replace("/", "_")
    scene_maker = load.scene_maker(dataset, *settings.folders)
    source = None if baseline is None else baseline.source
    subject = load_subject(dataset, title, lavae.source, source, settings)
    seed = lavae.config["seed"]
    parts = [
        f"## {title}\n",
        f"LAVAE from {lavae.source.name}, trained with seed {seed}.\n",
    ]
    pictures = figures.draw(subject, out / folder, settings.seed)
    for picture in tqdm.tqdm(pictures, desc=title, total=len(_HEADINGS)):
        heading = _HEADINGS[picture.name]
        parts += [f"### {title}: {heading}\n", f"{picture.caption}\n"]
        if picture.is_drawn:
            parts.append(f"![{heading}]({folder}/{picture.name}.png)\n")
    counts = measure_counts(subject, scene_maker, settings)
    plotting.save(
        plotting.confusion(counts.confusion, title=f"{title}: objects in new scenes"),
        out / folder / "counts.png",
    )
    return [
        *parts,
        f"### {title}: counting any number of objects\n",
        "New scenes of the same kind, which are in no split:\n",
        _counts(counts),
        f"![True and inferred numbers of objects]({folder}/counts.png)\n",
    ]


def _counts(counts: Counts) -> str:
    """Writes how many scenes with each number of objects are counted right."""
    shares = ["–" if math.isnan(x) else f"{x:.1%}" for x in counts.accuracy]
    numbers = ["n", *map(str, range(len(shares)))]
    num_scenes = ["new scenes", *map(str, counts.num_scenes)]
    return report.markdown_table([numbers, num_scenes, ["counted right", *shares]])


def main() -> None:
    """Makes the page from the models that the command line names."""
    values = flags.FLAGS
    models = (
        table.from_runs(values.workdir) if values.workdir else table.from_released()
    )
    settings = Settings(
        values.num_images, values.seed, values.data_dir, values.manual_dir
    )
    print(f"Read {make(models, values.out, settings)}.")


def _define_flags():
    flags.DEFINE_string("out", None, "Write everything to this folder.")
    flags.DEFINE_list("workdir", [], "Use measured runs, not the released weights.")
    flags.DEFINE_integer(
        "num_images",
        Settings().num_images,
        "Use this number of images of each split, and of new scenes for each n.",
        lower_bound=1,
    )
    flags.DEFINE_integer("seed", 0, "Seed samples and scenes.", lower_bound=0)
    flags.DEFINE_string(
        "data_dir", None, "Find data sets here (default: TFDS's folder)."
    )
    flags.DEFINE_string(
        "manual_dir", None, "Find MNIST's files here (default: download them)."
    )
    flags.mark_flag_as_required("out")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
