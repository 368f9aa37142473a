"""The tutorials' systems, step by step, on one set of images and under one evaluator.

configuration   everything that decides a run of the command
steps           the steps: one experiment each
presets         the tutorial on mnist5k and on the digits
stages          all steps, then the table, the figures and the page
"""
