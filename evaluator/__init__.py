"""The judge: a classifier trained apart from the generator, scoring, intervals, ranking and reporting."""
