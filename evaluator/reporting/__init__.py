"""Reporting: what a writeup needs, made of judged cells.

results        the tables of a sweep
figures        every figure
denoising      x at moments of sampling: the strip and the sheets
report         the report's folder and its page
ablation       variants of an experiment, compared seed by seed
unconditional  the report of an unconditional experiment
tutorial       the tutorial's table and page
"""
