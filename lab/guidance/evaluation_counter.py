"""A counter of network evaluations, the measure of a guidance method's cost."""

from lab.types import Conditions, Images, NoisePredictor, Timesteps


class EvaluationCounter:
    """A noise predictor that counts the images it is called with, in `evaluations`.

    Wrap it around the network, inside the guidance. The count is then the true cost of a method, because evaluations
    that the method skips are not counted.
    """

    def __init__(self, predictor: NoisePredictor) -> None:
        self.predictor = predictor
        self.evaluations = 0

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Count the rows of x_t and pass the call on."""
        self.evaluations += len(x_t)
        return self.predictor(x_t, timesteps, conditions)
