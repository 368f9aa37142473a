"""Judging: from a classifier's logits to accuracies, intervals and a ranking.

cells        a sweep cell's images and the evaluator's logits
scoring      the coursework's top-k rule
intervals    95 % intervals from resampled images
baselines    the ceiling (real images) and the floors
selection    paired comparisons, intervals of ranks, the optimism of a maximum
trainings    one recipe over several training seeds
epochs       the accuracies at w = 0 by epoch, beside the loss
ranking      the candidates from best to worst, with ties
equal_scale  methods of guidance compared with plain guidance at the same effective scale
best_of      the best of n images, chosen by a second classifier
"""
