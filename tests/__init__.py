"""The tests, and the checker that pytest runs every annotation of `lab` and `evaluator` through, shapes included."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is good enough where a float is asked for
