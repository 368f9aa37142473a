"""Judging: from a classifier's logits to accuracies, intervals and a ranking.

cells      a sweep cell's images and the evaluator's logits
scoring    the coursework's top-k rule
intervals  95 % intervals, resampling images
baselines  the ceiling (real images) and the floors
selection  paired comparisons, intervals of ranks, the luck of a maximum
ranking    the candidates in order, ties named
"""
