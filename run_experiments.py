"""Train, guide, score, sweep, rank and report: one command from nothing to a finished report.

This file is the command line; `experiments/` holds the presets and the stages.
"""

import os
import sys
from collections.abc import Callable, Sequence

from experiments.ablation import run_ablation
from experiments.choices import class_with_chosen_kinds, with_chosen_kinds
from experiments.configuration import Experiment
from experiments.presets import ABLATIONS, PRESETS, TUTORIALS
from experiments.stages import run
from experiments.tutorial import run_tutorial
from lab.errors import LabError, nearest


def render_scenes(arguments: Sequence[str]) -> None:
    """Render a folder in i-CLEVR's form: the command `render-scenes`."""
    import tyro

    from lab.scenes import rendering

    told = "Render pictures that look like i-CLEVR, with labels and label-set files, into a folder in its form."
    prog = "run_experiments.py render-scenes"
    rendering.render_scenes(tyro.cli(rendering.SceneConfig, args=list(arguments), prog=prog, description=told))


def export_pipeline(arguments: Sequence[str]) -> None:
    """Write a checkpoint as a folder of diffusers: the command `export-pipeline`."""
    import tyro

    from experiments import pipelines

    told = "Write a checkpoint as a folder that diffusers reads (extra [diffusers])."
    prog = "run_experiments.py export-pipeline"
    pipelines.write_pipeline(tyro.cli(pipelines.Export, args=list(arguments), prog=prog, description=told))


def import_pipeline(arguments: Sequence[str]) -> None:
    """Make a checkpoint of a folder of diffusers: the command `import-pipeline`."""
    import tyro

    from experiments import pipelines

    told = "Make an unconditional checkpoint of a folder of diffusers (extra [diffusers])."
    prog = "run_experiments.py import-pipeline"
    pipelines.read_pipeline(tyro.cli(pipelines.Import, args=list(arguments), prog=prog, description=told))


def sample(arguments: Sequence[str]) -> None:
    """Write images of a checkpoint as PNG files: the command `sample`."""
    import tyro

    from experiments import sampling

    told = "Sample images from a checkpoint into a folder of PNG files, for label sets of a file or typed."
    prog = "run_experiments.py sample"
    settings = class_with_chosen_kinds(sampling.Sampling, arguments)
    config = (tyro.conf.AvoidSubcommands,)
    asked: sampling.Sampling = tyro.cli(settings, args=list(arguments), config=config, prog=prog, description=told)
    sampling.sample_pictures(asked)


COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], None]]] = {
    "sample": ("sample images from a checkpoint into a folder of PNG files", sample),
    "render-scenes": ("render a stand-in for the i-CLEVR images (extra [scenes])", render_scenes),
    "export-pipeline": ("write a checkpoint as a folder of diffusers (extra [diffusers])", export_pipeline),
    "import-pipeline": ("make a checkpoint of a folder of diffusers (extra [diffusers])", import_pipeline),
}


def parse(preset: str, arguments: Sequence[str]) -> Experiment:
    """Return the experiment that a preset's name and the rest of a command line ask for."""
    import tyro

    if preset not in PRESETS:
        allowed = [*PRESETS, *COMMANDS]
        raise LabError(f"unknown preset {preset!r}{nearest(preset, allowed)}; allowed are {', '.join(allowed)}")
    presets = "\n".join(f"  {name}: {told}" for name, (told, _) in PRESETS.items())
    commands = "\n".join(f"  {name}: {told}" for name, (told, _) in COMMANDS.items())
    return tyro.cli(
        Experiment,
        args=list(arguments),
        default=with_chosen_kinds(PRESETS[preset][1], arguments),
        config=(tyro.conf.AvoidSubcommands,),
        prog=f"run_experiments.py {preset}",
        description=f"{__doc__.splitlines()[0]}\n\nPresets, of which the first is the default:\n{presets}\n\n"
        f"Other commands, each with its own --help:\n{commands}",
    )


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status: 0 done, 2 a user's mistake, 130 interrupted, 141 unread."""
    first, rest, saved = next(iter(PRESETS)), list(arguments), ""
    if rest and not rest[0].startswith("-"):
        first = rest.pop(0)
    try:
        if first in COMMANDS:
            COMMANDS[first][1](rest)
        else:
            experiment = parse(first, rest)
            saved = f" in {experiment.checkpoints}{'*' if first in (*ABLATIONS, *TUTORIALS) else ''}"
            if first in ABLATIONS:
                run_ablation(experiment, ABLATIONS[first])
            elif first in TUTORIALS:
                run_tutorial(experiment)
            else:
                run(experiment)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        told = f"interrupted; what was finished is saved{saved}, and the same command goes on from there"
        print(f"\n{told}", file=sys.stderr)
        return 130
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported here
            raise
        print("error: the device's memory is full; lower --training.batch-size or --sweep.batch-size", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of a pipe (`--help | head`) has gone; Python must not complain of it again while closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
