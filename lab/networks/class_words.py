"""The words of the classes, which their embeddings are sums of.

    embedding of class k = sum of the embeddings of its words

By default each class is one word of its own. With `class_embedding` "words" the words are those of its name, so that
"red cube" shares one embedding with "red sphere" and another with "blue cube".
"""

import torch
from torch import Tensor, nn

from lab.configuration.networks import ContextUnetConfig
from lab.data.labels import ClassVocabulary
from lab.errors import LabError
from lab.types import Conditions


class ClassWords(nn.Module):
    """Which words each class has. It has no parameters.

    Args:
        vocabulary: the K classes.
        config: `class_embedding`.

    Raises:
        LabError: two classes have the same words, so that a sum cannot tell them apart.
    """

    def __init__(self, vocabulary: ClassVocabulary, config: ContextUnetConfig) -> None:
        super().__init__()
        self.count = len(vocabulary)
        """J, the number of different words."""
        self.matrix: Tensor | None
        self.register_buffer("matrix", None, persistent=False)
        if config.class_embedding == "own":
            return
        words = sorted({word for name in vocabulary.names for word in name.split()})
        self.count = len(words)
        rows = [[float(name.split().count(word)) for word in words] for name in vocabulary.names]
        for place, row in enumerate(rows):
            if row in rows[:place]:
                raise LabError(
                    f"--denoiser.class-embedding words cannot tell {vocabulary.names[rows.index(row)]!r} from "
                    f"{vocabulary.names[place]!r}, which have the same words; choose own"
                )
        self.matrix = torch.tensor(rows)

    def forward(self, conditions: Conditions) -> Tensor:
        """Return how often each word is asked for, (B, J), from the conditions (B, K)."""
        return conditions if self.matrix is None else conditions @ self.matrix

    def embedded(self, table: Tensor) -> Tensor:
        """Return the embedding of every class, (K, E), from that of every word, (J, E)."""
        return table if self.matrix is None else self.matrix @ table
