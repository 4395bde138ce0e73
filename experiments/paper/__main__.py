"""Makes the paper's Table 1 and figures, and measures what it claims.

python -m experiments.paper --out=DIR

From the released weights, or with --workdir=DIR,DIR2 from runs of experiments.train
that experiments.evaluate has measured. Writes DIR/report.md, which shows everything,
and the same as report.json; Table 1 by itself as table1.md and table1.json; and per
data set a folder of pictures. What has not been trained is a gap.
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
        models: What there is, see `paper_models`.
        out: The folder to write to.
        settings: How many images, the seed, and where data is.
        datasets: Those to draw and measure; by default all with a LAVAE. The table has
            all that there is.

    Returns:
        The report, as it is in report.json.

    Raises:
        cli.UserError: If a setting or a name is not valid, or models, data or the
            folder can't be read or made, before any long work.
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
    if settings.num_images < 1:
        raise cli.UserError(f"--num_images must be at least 1: {settings.num_images}.")
    if settings.seed < 0:
        raise cli.UserError(f"--seed must not be negative: got {settings.seed}.")


def _chosen(by_key, datasets):
    """The data sets to draw, in the table's order."""
    trained = [
        dataset
        for (dataset, family), one in by_key.items()
        if family == LAVAE and one.source is not None
    ]
    if unknown := sorted(set(datasets or ()) - set(trained)):
        there_is = f"of {', '.join(trained)}" if trained else "of no data set"
        raise cli.UserError(
            f"--datasets: there is no measured LAVAE of {', '.join(unknown)}, but"
            f" {there_is}."
        )
    for dataset in trained:
        if dataset not in load.BUILDERS:
            raise cli.UserError(
                f"the figures need scenes whose objects are known, such as those of"
                f" {', '.join(paper_models.TITLES)}: got a model of {dataset}."
            )
    return [name for name in trained if not datasets or name in datasets]


def _data_set(lavae, baseline, maker, settings, out):
    """All pictures and numbers of one data set, with a progress bar."""
    folder = out / paper_page.folder(lavae.dataset)
    title = paper_models.title(lavae.dataset)
    steps = ["inference", *paper_figures.names(), *paper_claims.Claims._fields, ""]
    with tqdm.tqdm(total=len(steps) - 1, desc=title) as progress:

        def done(steps_done):
            progress.update(steps_done)
            progress.set_postfix_str(steps[progress.n])

        done(0)
        subject = paper_subject.look(lavae, baseline, settings)
        done(1)
        pictures = []
        for picture in paper_figures.draw(subject, folder, settings.seed):
            pictures.append(picture)
            done(1)
        claims = {}
        num_valid = lavae.config["data"]["num_valid"]
        for name, value in paper_claims.measure_claims(
            subject, maker, num_valid, settings
        ):
            claims[name] = value
            done(1)
    claims = paper_claims.Claims(**claims)
    figure = plotting.confusion(
        claims.counts.confusion, title=f"{title}: objects in new scenes"
    )
    plotting.save(figure, folder / "counts.png")
    return paper_page.DataSet(
        lavae.dataset,
        lavae.source.name,
        lavae.config["seed"],
        tuple(pictures),
        claims,
    )


def main() -> None:
    """Makes it of what the command line names."""
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
    """The flags of the command; not on import, where others may have the same names."""
    flags.DEFINE_string("out", None, "The folder to write to.")
    flags.DEFINE_list("workdir", [], "Measured training runs, not released weights.")
    flags.DEFINE_string(
        "weights", None, "A folder of released models, the library's if unset."
    )
    flags.DEFINE_list("datasets", [], "Those to draw, such as multi_dsprites; or all.")
    flags.DEFINE_integer(
        "num_images",
        Settings().num_images,
        "Images of each split, and new scenes of each number of objects, to measure.",
    )
    flags.DEFINE_integer("seed", 0, "Gives samples, edits and new scenes.")
    flags.DEFINE_string("data_dir", None, "Where data sets are, TFDS's default if not.")
    flags.DEFINE_string("manual_dir", None, "Where MNIST's files are, if not online.")
    flags.mark_flag_as_required("out")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
