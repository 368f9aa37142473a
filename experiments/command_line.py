"""The command line: `diffusion-lab NAME ...` once it is installed, `python run_experiments.py NAME ...` before that.

NAME is a preset, which runs an experiment, or one of `COMMANDS`. Importing this imports no torch.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.ablation import run_ablation
from experiments.choices import class_with_chosen_kinds, with_chosen_kinds
from experiments.configuration import Experiment
from experiments.pipelines import Export, Import, read_pipeline, write_pipeline
from experiments.play.command import play
from experiments.play.configuration import Play
from experiments.presets import ABLATIONS, PRESETS, PRINTED_RESULTS
from experiments.sampling import Sampling, sample_pictures
from experiments.stages import run
from experiments.study import run_study
from experiments.submissions import Scoring, score_submissions
from experiments.tutorial.configuration import Tutorial
from experiments.tutorial.presets import TUTORIALS
from experiments.tutorial.stages import run_tutorial
from experiments.unconditional.configuration import UnconditionalExperiment
from experiments.unconditional.presets import UNCONDITIONAL_PRESETS
from experiments.unconditional.stages import run_unconditional
from lab.configuration.arguments import parsed
from lab.errors import LabError, nearest
from lab.machine.ranks import ProcessLostError, joined, present_ranks
from lab.machine.threads import bound_spinning, undo_single_threads
from lab.scenes.rendering import SceneConfig, render_scenes
from lab.text import escape_output, printable

AnyPreset = Experiment | UnconditionalExperiment | Tutorial
COMMANDS: dict[str, tuple[str, type[Any], Callable[[Any], None]]] = {
    "score": ("score folders of PNG files, made by any program, under an evaluator", Scoring, score_submissions),
    "sample": (
        "sample images from a checkpoint, or a folder of diffusers, into a folder of PNG files",
        Sampling,
        sample_pictures,
    ),
    "play": ("sample in a browser: move the guidance weight, see every step (extra [page])", Play, play),
    "render-scenes": ("render a stand-in for the i-CLEVR images (extra [scenes])", SceneConfig, render_scenes),
    "export-pipeline": ("write a checkpoint as a folder of diffusers (extra [diffusers])", Export, write_pipeline),
    "import-pipeline": ("make a checkpoint of a folder of diffusers (extra [diffusers])", Import, read_pipeline),
}
"""What each command is for, its settings, which become its options, and the function that takes them.

A new command is a file with a dataclass and a function, and a line here.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status.

    It is 0 when done, 1 when another process of the training ended, 2 for a user's mistake, 130 when interrupted, and
    141 when the output is no longer read.

    Args:
        arguments: the words after the program's name; without them, those of this process.
    """
    escape_output()
    bound_spinning()
    undo_single_threads()
    first, rest, saved = next(iter(PRESETS)), list(sys.argv[1:] if arguments is None else arguments), ""
    if rest and not rest[0].startswith("-"):
        first = rest.pop(0)
    try:
        with joined() as ranks:
            if ranks.rank:
                ranks.serve()
            elif first in COMMANDS:
                purpose, settings, call = COMMANDS[first]
                chosen = class_with_chosen_kinds(settings, rest)
                call(parsed(chosen, rest, program(first), f"{purpose[0].upper()}{purpose[1:]}."))
            else:
                experiment = parse(first, rest)
                several = first in (*ABLATIONS, *TUTORIALS) or (isinstance(experiment, Experiment) and experiment.seeds)
                saved = f" in {experiment.checkpoints}{'*' if several else ''}"
                run_preset(first, experiment)
    except LabError as error:
        return failed(2, f"error: {printable(str(error))}")
    except ProcessLostError as error:
        return failed(1, f"\nerror: {error}")  # another process's progress bar has the line
    except KeyboardInterrupt:
        return failed(130, f"\ninterrupted; finished work is saved{saved}; the same command resumes it")
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported here
            raise
        return failed(2, "error: the device's memory is full; lower --training.batch-size or --sweep.batch-size")
    except BrokenPipeError:
        # The reader of a pipe (`--help | head`) has gone; Python must not complain of it again while closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def failed(status: int, message: str) -> int:
    """Print an error, once for all the processes of this command, and return an exit status."""
    if present_ranks().first_to_report():
        print(message, file=sys.stderr)
    return status


def run_preset(preset: str, experiment: AnyPreset) -> None:
    """Run an experiment in the way of its preset: once, for each seed, for each variant and seed, or step by step."""
    if isinstance(experiment, UnconditionalExperiment):
        run_unconditional(experiment)
    elif isinstance(experiment, Tutorial):
        run_tutorial(experiment)
    elif preset in ABLATIONS:
        run_ablation(experiment, ABLATIONS[preset])
    elif experiment.seeds:
        run_study(experiment)
    else:
        run(experiment, PRINTED_RESULTS.get(preset, ()))


def parse(preset: str, arguments: Sequence[str]) -> AnyPreset:
    """Return the experiment that a preset's name and the rest of a command line describe."""
    every: dict[str, tuple[str, AnyPreset]] = {**PRESETS, **UNCONDITIONAL_PRESETS, **TUTORIALS}
    if preset not in every:
        near = nearest(preset, [*every, *COMMANDS])
        raise LabError(f"unknown preset or command {preset!r}; `run_experiments.py --help` lists all{near}")
    presets = "\n".join(f"  {name}: {entry[0]}" for name, entry in every.items())
    commands = "\n".join(f"  {name}: {entry[0]}" for name, entry in COMMANDS.items())
    stages = "Train, sample" if preset in UNCONDITIONAL_PRESETS else "Train, guide, score, sweep, rank"
    description = (
        f"{stages} and report: one command from nothing to a finished report.\n\n"
        f"Presets, of which the first is the default:\n{presets}\n\n"
        f"Other commands, each with its own --help:\n{commands}"
    )
    default = every[preset][1]
    if not isinstance(default, Tutorial):  # whose steps choose kinds for themselves
        default = with_chosen_kinds(default, arguments)
    return parsed(type(default), arguments, program(preset), description, default)


def program(name: str) -> str:
    """Return how a command is called, for its help."""
    return f"{Path(sys.argv[0]).name} {name}"
