"""Quality beside accuracy, in the features of a second evaluator.

measures           all measures of a set of images, with intervals, beside real images
neighbours         density, coverage, precision, recall, distance to the nearest training image
feature_distances  Frechet and kernel distance
"""
