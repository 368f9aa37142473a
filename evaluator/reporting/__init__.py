"""Reporting: what a writeup needs, made of judged cells.

results          the tables of a sweep
methods          methods of guidance at equal effective scale: their section of the page, and their figure
ema_lengths      checkpoints with EMAs of other lengths: their section of the page
best_of          the best of n images: its section of the page
printed          results that an experiment's source printed
figures          every figure
denoising        x at moments of sampling: the strip and the sheets
contact_sheets   all images of the best row, in one picture and as files
picture_folders  folders of 0.png, 1.png, ... to hand in
report           the report's folder and its page
page/            the page that opens in a browser
two_judges       accuracy under both evaluators of images that a classifier guided
verdict          what the ranking says, in words
submissions      several makers' folders of pictures, scored
ablation         variants of an experiment, compared seed by seed
study            one recipe, trained with several seeds
unconditional    the report of an unconditional experiment
tutorial         the tutorial's table and page
rehearsal        what could make a report fail, tried before a run
drawing          the parts of matplotlib that are used, imported without the user's backend
canvas           an empty figure, and its PNG file
fonts            fonts that have the characters of a text
"""
