"""Experiments: the only room that knows both the generator (`lab`) and the judge (`evaluator`)."""
