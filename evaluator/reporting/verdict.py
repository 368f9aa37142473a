"""The verdict: what the ranking says, in words."""

import numpy as np

from evaluator.reporting.results import Results


def verdict(results: Results) -> list[str]:
    """Return two paragraphs of plain text: the best row with its ties, and how much of its accuracy may be luck."""
    ranked, best = results.ranking, results.best
    files = list(dict.fromkeys(str(cell.settings["label_set"]) for cell in results.cells))
    accuracies = [f"{best[f]:.3f} ({best[f'{f}_low']:.3f} to {best[f'{f}_high']:.3f}) on {f}.json" for f in files]
    others = f", and {', '.join(accuracies[1:])}, which the ranking does not use" if accuracies[1:] else ""
    settings = results.best_cells[0][0].settings["guidance_settings"]
    scale, warning = best["effective_guidance_scale"], best["guidance_warning"]
    ties, images = int(ranked["tied_with_best"].sum()) - 1, len(results.scored[0].labels)
    tied = "No other row is" if ties == 0 else "1 other row is" if ties == 1 else f"{ties} other rows are"
    return [
        f"The best of {len(ranked)} rows is checkpoint {best['checkpoint']} with {best['guidance_method']} guidance"
        f"{f' ({settings})' if settings else ''} at weight w = {best['guidance_weight']:g} (guidance scale s = 1 + w = "
        f"{best['guidance_scale']:g}{'' if np.isnan(scale) else f', effective scale {scale:.4g}'}): accuracy "
        f"{accuracies[0]}{others}. {tied} tied with it. A row is tied if, over the same pairs of label set and seed, "
        f"the 95 % interval of the difference includes 0."
        f"{f' The best row has a warning: {warning}.' if warning else ''}",
        "If the best row and those tied with it were equally good, the best one's accuracy on "
        f"{files[0]}.json would still be {results.optimism:.3f} too high on average, because it is the maximum of "
        f"{ties + 1} rows on {images} images.",
    ]
