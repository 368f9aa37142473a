"""The tutorial on two data sets. Importing this does not import torch."""

from evaluator.configuration import EvaluatorConfig
from experiments.presets import label_set_files
from experiments.tutorial.configuration import Tutorial
from lab.configuration.data import DataConfig

TUTORIALS: dict[str, tuple[str, Tutorial]] = {
    "tutorial": (
        "the tutorials' systems, from a corrupted image to guided diffusion, step by step; 67 minutes on 2 cores "
        "(extras [mnist,diffusers])",
        Tutorial(
            name="tutorial",
            epochs=32,
            seeds=1,
            data=DataConfig(dataset="mnist5k", label_sets=label_set_files("mnist5k")[:1]),
            evaluator=EvaluatorConfig(epochs=30),
        ),
    ),
    "tutorial-digits": ("the same on the digits; 10 minutes on 2 cores (extra [diffusers])", Tutorial()),
}
