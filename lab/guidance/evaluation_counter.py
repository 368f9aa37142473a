"""Counting network evaluations, the cost that methods of guidance are compared at."""

from lab.types import Conditions, Images, NoisePredictor, Timesteps


class EvaluationCounter:
    """A noise predictor that counts: `evaluations` grows by one for every image put through the network.

    Wrapped around the network, inside any guidance, it gives the true cost of a method, whatever the method skips.
    """

    def __init__(self, predictor: NoisePredictor) -> None:
        self.predictor = predictor
        self.evaluations = 0

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Count the rows of x_t and pass the call on."""
        self.evaluations += len(x_t)
        return self.predictor(x_t, timesteps, conditions)
