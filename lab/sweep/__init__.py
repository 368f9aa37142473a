"""The sweep: every checkpoint with every label-set file, guidance method and weight.

cells   the definition of a sweep cell, and the file that stores its result
fit     checks that the settings of a sweep are compatible
lift    how much better a denoiser predicts an image's noise with its label set than without
run     runs cells: samples the images, judges them, and writes each cell once
spread  spreads a sweep over workers, with the bits of one process
"""
