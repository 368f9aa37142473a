"""Experiments: where the generator (`lab`) and the judge (`evaluator`) meet. Only benchmarks/ also knows both.

command_line      presets and commands by name
configuration     everything that decides an experiment
presets           experiments with names
distillation      a teacher and its student in one sweep
choices           kinds on the command line and in ablations
stages            evaluator, training, sweep, report
evaluators        the evaluator that ranks, an optional second one, and a classifier that guides
sweep             the cells of an experiment
ema_lengths       checkpoints with EMAs of other lengths
weaker            the checkpoint that autoguidance guides away from
running_accuracy  accuracies at w = 0 while training runs
previews          pictures while training runs
tensorboard       numbers and pictures for TensorBoard while training runs
reporting         the report's contents
judged_cells      finished cells as the evaluator's tables want them
ablation          an experiment and variants of it
selection         the best of n images
runs              several experiments, one after another or on workers
study             an experiment with several training seeds
sampling          the command `sample`
submissions       the command `score`
pipelines         the commands `export-pipeline` and `import-pipeline`
play/             the command `play`: a page that samples on demand
unconditional/    experiments without labels
tutorial/         the tutorials' systems, step by step
"""
