"""Results: the finished cells of a sweep, scored, and the tables made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from evaluator.judging.baselines import baseline_row, shuffled_row
from evaluator.judging.cells import CELL, NOT_TO_BE_BELIEVED, JudgedCell
from evaluator.judging.equal_scale import EqualScale, FileRows, can_compare, equal_scale
from evaluator.judging.intervals import Interval, interval_columns, ratio_interval
from evaluator.judging.ranking import accuracy_by_checkpoint, ranking
from evaluator.judging.scoring import MEASURES, ScoredImages, chance, score
from lab.data.labels import ClassVocabulary, LabelSet
from lab.types import ClassLogits, Conditions


def doubts_alone(table: pd.DataFrame) -> pd.DataFrame:
    """Return a ranking with the warnings alone that say what is not to be believed, which fit a terminal."""
    doubtful = table["guidance_warning"].str.contains(NOT_TO_BE_BELIEVED, regex=False).astype(bool)
    return table.assign(guidance_warning=np.where(doubtful, NOT_TO_BE_BELIEVED, ""))


def columns_that_say_nothing(table: pd.DataFrame) -> list[str]:
    """Return the columns of a ranking that say the same in every row, or the same as another column."""
    scale = table["effective_guidance_scale"].astype(float)
    says_nothing = {
        "step": True,
        "guidance_method": table["guidance_method"].nunique() == 1,
        "effective_guidance_scale": bool((scale.isna() | ((scale - table["guidance_scale"]).abs() < 0.001)).all()),
        "guidance_warning": bool((table["guidance_warning"] == "").all()),
    }
    return [column for column, nothing in says_nothing.items() if nothing]


@dataclass(frozen=True)
class Results:
    """All cells of a sweep with what is needed to read them.

    Args:
        vocabulary: the classes.
        cells: in order; the first one's label-set file is the one that ranks.
        earlier: cells of the same checkpoints with other settings, which have their rows in `sweep.csv` too.
        held_out_logits: the evaluator's, of real held-out images.
        held_out_conditions: what those images show.
        trained_conditions: what the images show that the generator was trained on.
        splits_without: the splits that have no image of a class, by the class.
    """

    vocabulary: ClassVocabulary
    cells: Sequence[JudgedCell]
    earlier: Sequence[JudgedCell]
    held_out_logits: ClassLogits
    held_out_conditions: Conditions
    trained_conditions: Float[Tensor, "trained class"]
    splits_without: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @cached_property
    def scored(self) -> list[ScoredImages]:
        """The scored images of every cell."""
        return [self._scored(cell) for cell in self.cells]

    def _scored(self, cell: JudgedCell) -> ScoredImages:
        return score(cell.logits, self.conditions(cell))

    def conditions(self, cell: JudgedCell) -> Conditions:
        """Return the conditions of a cell's images; cells with the same label sets share them."""
        asked = tuple(cell.label_sets)
        if asked not in self._conditions:
            self._conditions[asked] = self.vocabulary.conditions(asked)
        return self._conditions[asked]

    @cached_property
    def _conditions(self) -> dict[tuple[LabelSet, ...], Conditions]:
        return {}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of `sweep.csv` that belong to this sweep, one for each cell."""
        return [_row(cell, images) for cell, images in zip(self.cells, self.scored, strict=True)]

    @property
    def sweep_with_earlier(self) -> pd.DataFrame:
        """All rows of `sweep.csv`: this sweep's, and those that earlier ones with other settings left, in order."""
        rows = [*self.rows, *(_row(cell, self._scored(cell)) for cell in self.earlier)]
        files = list(dict.fromkeys(row["label_set"] for row in rows))
        settings = ("sampler", "sampling_steps", "seeds", "guidance_method", "guidance_settings", "guidance_weight")
        rows.sort(key=lambda row: (row["step"], files.index(row["label_set"]), *(row[name] for name in settings)))
        return pd.DataFrame(rows)

    @property
    def ranked_by(self) -> str:
        """The label-set file that ranks."""
        return str(self.cells[0].settings["label_set"])

    @cached_property
    def sweep(self) -> pd.DataFrame:
        """The rows of `sweep.csv` that belong to this sweep."""
        return pd.DataFrame(self.rows)

    @cached_property
    def per_class(self) -> pd.DataFrame:
        """The rows of `per_class.csv`: a row for every cell and every class of its label sets."""
        return pd.DataFrame(
            {column: cell.settings[column] for column in CELL} | row | {"warning": self._warning(row["class"])}
            for cell, images in zip(self.cells, self.scored, strict=True)
            for row in images.per_class(self.vocabulary.names)
        )

    def _warning(self, class_name: str) -> str:
        """Return what makes a class's accuracy doubtful, or nothing."""
        without = self.splits_without.get(class_name, ())
        return f"no image in: {', '.join(without)}" if without else ""

    @cached_property
    def by_size(self) -> pd.DataFrame:
        """The rows of `accuracy_by_size.csv`: a row for every cell, number of labels asked, and seen or unseen.

        Labels are seen together where one image that the generator was trained on shows them all.
        """
        rows = []
        trained = torch.unique(self.trained_conditions, dim=0)
        for cell, images in zip(self.cells, self.scored, strict=True):
            asked = self.conditions(cell)
            seen = (asked @ trained.T == asked.sum(dim=1, keepdim=True)).any(dim=1).numpy()
            for size, together in sorted({*zip(images.labels.tolist(), seen.tolist(), strict=True)}):
                chosen = (images.labels == size) & (seen == together)
                accuracy = ratio_interval(images.correct_labels[chosen], images.labels[chosen])
                rows.append(
                    {column: cell.settings[column] for column in CELL}
                    | {"labels_asked": size, "seen_together": together, "images": int(chosen.sum())}
                    | interval_columns("accuracy", accuracy)
                )
        return pd.DataFrame(rows)

    @property
    def has_sizes(self) -> bool:
        """Whether label sets differ in size, or in whether training showed them together."""
        return len(self.by_size[["labels_asked", "seen_together"]].drop_duplicates()) > 1

    @property
    def by_size_of_best(self) -> pd.DataFrame:
        """The rows of `accuracy_by_size.csv` that are of the best row's checkpoint, method and weight."""
        names = ["checkpoint", "guidance_method", "guidance_weight"]
        return self.by_size[(self.by_size[names] == self.best[names]).all(axis=1)]

    def with_accuracy(self, quality: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of `quality.csv` on the file that ranks, each with its accuracy; the reference row first."""
        accuracy = self.sweep[[*CELL, "accuracy", "accuracy_low", "accuracy_high"]]
        rows = quality.merge(accuracy, on=CELL, how="left")
        return rows[rows["label_set"].isna() | (rows["label_set"] == self.ranked_by)]

    @cached_property
    def by_checkpoint(self) -> pd.DataFrame:
        """The rows of `accuracy_by_checkpoint.csv`."""
        return accuracy_by_checkpoint(self.sweep)

    @cached_property
    def _ranking_and_optimism(self) -> tuple[pd.DataFrame, float]:
        of_file = [
            images for cell, images in zip(self.cells, self.scored, strict=True)
            if cell.settings["label_set"] == self.ranked_by
        ]  # fmt: skip
        return ranking(self.by_checkpoint, self.ranked_by, of_file)

    @property
    def ranking(self) -> pd.DataFrame:
        """The rows of `ranking.csv`."""
        return self._ranking_and_optimism[0]

    @property
    def optimism(self) -> float:
        """How much the best row would be expected to stand above its true accuracy, were its ties equally good."""
        return self._ranking_and_optimism[1]

    @property
    def chance(self) -> float:
        """The accuracy of guessing at the label-set file that ranks."""
        return chance(self.conditions(self.cells[0]))

    @cached_property
    def best(self) -> "pd.Series[Any]":
        """The first row of the ranking."""
        return self.ranking.iloc[0]

    @property
    def best_cells(self) -> list[tuple[JudgedCell, ScoredImages]]:
        """The cells of the best row with their scored images: one for each label-set file, that which ranks first."""
        names = ("checkpoint", "guidance_method", "guidance_weight")
        return [
            (cell, images)
            for cell, images in zip(self.cells, self.scored, strict=True)
            if all(cell.settings[name] == self.best[name] for name in names)
        ]

    @cached_property
    def checkpoint_of(self) -> dict[str, str]:
        """The checkpoint that stands for each method of guidance: the best row's, where it has rows of the method.

        Of other methods, it is their own best checkpoint: a student and its teacher are compared so.
        """
        best = self.best["checkpoint"]
        of_best = self.ranking[self.ranking["checkpoint"] == best]["guidance_method"]
        ranked = self.ranking.drop_duplicates("guidance_method")
        own = dict(zip(ranked["guidance_method"], ranked["checkpoint"], strict=True))
        return own | dict.fromkeys(of_best, best)

    def of_best_checkpoint(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a table that are of the checkpoint that stands for their method, `checkpoint_of`."""
        return table[table["checkpoint"] == table["guidance_method"].map(self.checkpoint_of)]

    @cached_property
    def cells_of_best_checkpoint(self) -> list[JudgedCell]:
        """The cells of the checkpoints of `checkpoint_of`, in order: most often those of the best row's checkpoint."""
        checkpoint_of = self.checkpoint_of
        return [
            cell
            for cell in self.cells
            if cell.settings["checkpoint"] == checkpoint_of[cell.settings["guidance_method"]]
        ]

    @cached_property
    def methods(self) -> list[str]:
        """The methods of guidance, in order."""
        return list(dict.fromkeys(cell.settings["guidance_method"] for cell in self.cells))

    def cells_of(self, method: str) -> list[JudgedCell]:
        """Return the cells of `cells_of_best_checkpoint` that were guided by this method, in order."""
        return [cell for cell in self.cells_of_best_checkpoint if cell.settings["guidance_method"] == method]

    @cached_property
    def at_equal_scale(self) -> EqualScale | None:
        """The methods compared with plain guidance at the best row's checkpoint; None if they cannot be compared."""
        files = []
        for _, rows in self.sweep[self.sweep["checkpoint"] == self.best["checkpoint"]].groupby("label_set", sort=False):
            images = [self.scored[place] for place in rows.index]
            correct = np.stack([one.correct_labels for one in images], axis=1)
            files.append(FileRows(rows, correct, images[0].labels))
        return equal_scale(files) if all(can_compare(file.rows) for file in files) else None

    @cached_property
    def best_of_methods(self) -> list[JudgedCell]:
        """For each method, its best cell in `cells_of_best_checkpoint` on the file that ranks."""
        ranked = self.of_best_checkpoint(self.ranking)
        best = ranked.drop_duplicates("guidance_method").set_index("guidance_method")["guidance_weight"]
        return [
            cell
            for method in self.methods
            for cell in self.cells_of(method)
            if cell.settings["guidance_weight"] == best[method] and cell.settings["label_set"] == self.ranked_by
        ]

    @cached_property
    def baselines(self) -> pd.DataFrame:
        """The rows of `baselines.csv`; the ceiling first, then the floors, of the best row's checkpoint."""
        rows = [baseline_row("real held-out images", "held out", self.held_out_logits, self.held_out_conditions)]
        cells = [(cell.settings, cell.logits, self.conditions(cell)) for cell in self.cells_of_best_checkpoint]
        # Several methods may be unconditional at some weight; the first one's images do for all.
        unconditional = {
            cell.settings["label_set"]: cell for cell in reversed(self.cells_of_best_checkpoint) if cell.unconditional
        }
        for label_set, cell in reversed(unconditional.items()):
            rows.append(baseline_row("unconditional", label_set, cell.logits, self.conditions(cell)))
        for settings, logits, conditions in cells:
            if all(settings[name] == self.best[name] for name in ("guidance_method", "guidance_weight")):
                rows.append(shuffled_row(settings["label_set"], logits, conditions))
        return pd.DataFrame(rows)

    @property
    def ceiling(self) -> Interval | None:
        """The accuracy of real held-out images, or None if there are none."""
        row = self.baselines.iloc[0]
        return Interval(row["accuracy"], row["accuracy_low"], row["accuracy_high"]) if row["images"] else None

    def evaluator(self, network: nn.Module, training_images: int | None) -> pd.DataFrame:
        """Return the row of `evaluator.csv`: the classifier, and its accuracy on the held-out images.

        Args:
            network: the classifier.
            training_images: how many it was trained on, or None if nobody knows.
        """
        held_out = self.baselines.iloc[0]
        parameters = sum(parameter.numel() for parameter in network.parameters())
        row = {
            "evaluator": type(network).__name__,
            "parameters": parameters,
            "training_images": training_images,
            "held_out_images": held_out["images"],
        }
        measured = {column: held_out[column] for column in held_out.index if str(column).startswith(MEASURES)}
        return pd.DataFrame([row | measured])


def sweep_rows(cells: Sequence[JudgedCell], vocabulary: ClassVocabulary) -> pd.DataFrame:
    """Return the rows of `sweep.csv` for these cells."""
    return pd.DataFrame(_row(cell, score(cell.logits, vocabulary.conditions(cell.label_sets))) for cell in cells)


def _row(cell: JudgedCell, images: ScoredImages) -> dict[str, Any]:
    return cell.settings | {"images": len(cell.logits), **images.columns()} | cell.cost
