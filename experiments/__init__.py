"""Experiments: where the generator (`lab`) and the judge (`evaluator`) meet. Only benchmarks/ knows both too."""
