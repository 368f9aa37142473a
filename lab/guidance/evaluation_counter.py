"""Counters of evaluations, the measure of a guidance method's cost."""

from torch import Tensor

from lab.types import ClassLogits, Conditions, ImageClassifier, Images, NoisePredictor, Timesteps


class EvaluationCounter:
    """A noise predictor that counts the images it is called with, in `evaluations`.

    Wrap it around the network, inside the guidance. The count is then the true cost of a method, because evaluations
    that the method skips are not counted. An image whose gradient goes back through the network counts once more: the
    way back to the input costs about as much as the way forward.
    """

    def __init__(self, predictor: NoisePredictor) -> None:
        self.predictor = predictor
        self.evaluations = 0

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Count the rows of x_t and pass the call on."""
        self.evaluations += len(x_t)
        predicted = self.predictor(x_t, timesteps, conditions)
        if predicted.requires_grad:
            predicted.register_hook(self._count_way_back)  # type: ignore[no-untyped-call]  # torch's own signature is untyped
        return predicted

    def _count_way_back(self, gradient: Tensor) -> None:
        self.evaluations += len(gradient)


class ClassifierCounter:
    """A classifier that counts the images it is called with, in `evaluations`.

    Where guidance follows a call with one way back to the images, that is part of the evaluation here.
    """

    def __init__(self, classifier: ImageClassifier) -> None:
        self.classifier = classifier
        self.evaluations = 0

    def __call__(self, images: Images) -> ClassLogits:
        """Count the images and pass the call on."""
        self.evaluations += len(images)
        return self.classifier(images)
