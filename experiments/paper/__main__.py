"""Makes the paper's Table 1 and figures, and measures what it claims.

python -m experiments.paper --out=DIR

uses the released weights, or with --workdir=DIR,DIR2 runs of experiments.train that
experiments.evaluate has measured. It writes DIR/report.md, which shows everything, the
same as report.json, Table 1 by itself as table1.md and table1.json, and a folder of
pictures for each data set. Models that have not been trained are gaps in the table.
"""

import pathlib
from collections.abc import Sequence

from absl import flags
from tqdm import auto as tqdm

from datasets import load
from experiments import cli, evaluate
from experiments.measure import report
from experiments.paper import claims as paper_claims
from experiments.paper import figures as paper_figures
from experiments.paper import models as paper_models
from experiments.paper import page as paper_page
from experiments.paper import subject as paper_subject
from experiments.paper import table as paper_table
from experiments.paper.models import BASELINE, LAVAE, Models
from experiments.paper.subject import Settings
from lavae_jax import plotting


def make(
    models: Sequence[Models],
    out: str | pathlib.Path,
    settings: Settings | None = None,
    datasets: Sequence[str] | None = None,
) -> paper_page.PaperReport:
    """Makes the table, the figures and the page that shows them.

    Args:
        models: The trained models, as `paper_models` finds them.
        out: The folder to write to.
        settings: How many images to use, the seed, and where the data is.
        datasets: The data sets to draw and measure; by default all with a LAVAE. The
            table always has all models.

    Returns:
        The report, as it is in report.json.

    Raises:
        cli.UserError: If a setting or a name is invalid, or if models, data or the
            folder can't be read or made; this is checked before any long work.
    """
    settings, out = settings or Settings(), pathlib.Path(out)
    _check(settings)
    models = paper_models.complete(models)
    by_key = {(one.dataset, one.family): one for one in models}
    chosen = _chosen(by_key, datasets)
    with cli.user_errors(ValueError, OSError):
        out.mkdir(parents=True, exist_ok=True)
        for dataset in chosen:
            load.builder(dataset, *settings.folders)
        makers = {name: load.scene_maker(name, *settings.folders) for name in chosen}
        rows = tuple(paper_table.table(models))
        report.write(rows, out / "table1.json")
        (out / "table1.md").write_text(paper_table.markdown(rows), encoding="utf-8")
    found = [
        _data_set(by_key[name, LAVAE], by_key[name, BASELINE], maker, settings, out)
        for name, maker in makers.items()
    ]
    result = paper_page.PaperReport(
        settings.num_images, settings.seed, evaluate.versions(), rows, tuple(found)
    )
    report.write(result, out / "report.json")
    (out / "report.md").write_text(paper_page.markdown(result), encoding="utf-8")
    return result


def _check(settings):
    """Refuses invalid settings."""
    if settings.num_images < 1:
        raise cli.UserError(f"--num_images must be at least 1: {settings.num_images}.")
    if settings.seed < 0:
        raise cli.UserError(f"--seed must not be negative: got {settings.seed}.")


def _chosen(by_key, datasets):
    """Picks the data sets to draw, in the table's order."""
    trained = [
        dataset
        for (dataset, family), one in by_key.items()
        if family == LAVAE and one.source is not None
    ]
    if unknown := sorted(set(datasets or ()) - set(trained)):
        raise cli.UserError(
            f"--datasets: there is no measured LAVAE of {', '.join(unknown)}; there are"
            f" those of: {', '.join(trained) or 'no data set'}."
        )
    for dataset in trained:
        if dataset not in load.BUILDERS:
            raise cli.UserError(
                "the figures need scenes whose objects are known, such as those of"
                f" {', '.join(paper_models.TITLES)}: got a model of {dataset}."
            )
    return [name for name in trained if not datasets or name in datasets]


def _data_set(lavae, baseline, maker, settings, out):
    """Makes all pictures and numbers of one data set, with a progress bar."""
    folder = out / paper_page.folder(lavae.dataset)
    title = paper_models.title(lavae.dataset)
    with tqdm.tqdm(total=len(paper_figures.names()) + 2, desc=title) as progress:
        subject = paper_subject.look(lavae, baseline, settings)
        progress.update()
        pictures = []
        for picture in paper_figures.draw(subject, folder, settings.seed):
            pictures.append(picture)
            progress.update()
        num_valid = lavae.config["data"]["num_valid"]
        claims = paper_claims.measure_claims(subject, maker, num_valid, settings)
        progress.update()
    figure = plotting.confusion(
        claims.counts.confusion, title=f"{title}: objects in new scenes"
    )
    plotting.save(figure, folder / "counts.png")
    return paper_page.DataSet(
        dataset=lavae.dataset,
        source=lavae.source.name,
        seed=lavae.config["seed"],
        pictures=tuple(pictures),
        claims=claims,
    )


def main() -> None:
    """Makes the page from the models that the command line names."""
    values = flags.FLAGS
    if values.workdir and values.weights:
        raise cli.UserError("--workdir and --weights exclude each other: pass one.")
    if values.workdir:
        models = paper_models.from_runs(values.workdir)
    else:
        models = paper_models.from_released(values.weights)
    settings = Settings(
        values.num_images, values.seed, values.data_dir, values.manual_dir
    )
    make(models, values.out, settings, values.datasets or None)
    print(f"Read {pathlib.Path(values.out) / 'report.md'}.")


def _define_flags():
    """Defines the command's flags; not on import, as other commands share names."""
    flags.DEFINE_string("out", None, "The folder to write to.")
    flags.DEFINE_list("workdir", [], "Measured training runs, instead of weights.")
    flags.DEFINE_string(
        "weights", None, "A folder of released models; by default the library's."
    )
    flags.DEFINE_list("datasets", [], "Data sets to draw; by default all.")
    flags.DEFINE_integer(
        "num_images",
        Settings().num_images,
        "How many images of each split, and new scenes for each n, are used.",
    )
    flags.DEFINE_integer("seed", 0, "Seed of samples, edits and new scenes.")
    flags.DEFINE_string("data_dir", None, "Folder of the data sets; None is TFDS's.")
    flags.DEFINE_string("manual_dir", None, "Folder of MNIST's files; None downloads.")
    flags.mark_flag_as_required("out")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
