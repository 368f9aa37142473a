"""The words of the classes, which their embeddings are sums of.

    embedding of class k = sum of the embeddings of its words

By default each class is one word of its own. With `class_embedding` "words" the words are those of its name, so that
"red cube" shares one embedding with "red sphere" and another with "blue cube".
"""

import torch
from torch import Tensor, nn

from lab.configuration.networks import ContextUnetConfig
from lab.errors import LabError
from lab.types import ClassNames, Conditions


class ClassWords(nn.Module):
    """Which words each class has. It has no parameters.

    Args:
        classes: the names of the K classes.
        config: `class_embedding`.

    Raises:
        LabError: two classes have the same words, so that a sum cannot tell them apart.
    """

    def __init__(self, classes: ClassNames, config: ContextUnetConfig) -> None:
        super().__init__()
        self.count = len(classes)
        """J, the number of different words."""
        self.matrix: Tensor | None
        self.register_buffer("matrix", None, persistent=False)
        if config.class_embedding == "own":
            return
        words = sorted({word for name in classes for word in name.split()})
        self.count = len(words)
        self.matrix = torch.zeros(len(classes), len(words))
        place_of = {word: place for place, word in enumerate(words)}
        class_of: dict[tuple[str, ...], str] = {}
        for index, name in enumerate(classes):
            its_words = tuple(sorted(name.split()))
            if its_words in class_of:
                raise LabError(
                    f"--denoiser.class-embedding words cannot tell {class_of[its_words]!r} from {name!r}; "
                    f"they have the same words; choose own"
                )
            class_of[its_words] = name
            for word in its_words:
                self.matrix[index, place_of[word]] += 1

    def forward(self, conditions: Conditions) -> Tensor:
        """Return how often each word occurs in each label set, (B, J), from the conditions (B, K)."""
        return conditions if self.matrix is None else conditions @ self.matrix

    def embedded(self, table: Tensor) -> Tensor:
        """Return the embedding of every class, (K, E), from that of every word, (J, E)."""
        return table if self.matrix is None else self.matrix @ table
