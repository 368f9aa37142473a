"""Guidance: noise predictors that wrap a noise predictor, one file per method.

Every method has a weight w. At its neutral settings it equals plain classifier-free guidance at that weight exactly.

    method              the protocol of a method and the facts it declares
    methods             the methods by name
    classifier_free     plain: classifier-free guidance
    limited_interval    interval: guidance between two noise levels only
    weight_schedule     schedule: a weight that changes with t
    rescale             rescale: restores the standard deviation of the prediction
    projected           projected: APG
    plus_plus           plus_plus: CFG++
    autoguidance        auto: guidance away from a weaker checkpoint
    zero_star           zero_star: CFG-Zero*, with an unconditional half scaled to fit
    tangential          tangential: TCFG, along the common direction of the halves
    magnitude           magnitude: MAMBO-G, less guidance where it would change more
    feedback            feedback: FBG, a weight for each image and step
    annealed            annealed: CADS, noise on the condition while images are noisy
    independent         independent: ICG, away from a random condition instead of the null condition
    timestep            timestep: TSG, away from the network's prediction at a wrong timestep
    composed            composed: one term for each class of a label set
    classifier          classifier: by the gradient of a classifier, on top of plain guidance
    dynamic             dynamic: a weight that a classifier chooses for each image and step
    distilled           distilled: a student that takes w as an input, in one evaluation a step
    evaluation_counter  the cost of a method in evaluations of the denoiser and of a classifier
    observed_step       the conditional and the unconditional prediction of a step
    effective_scale     how far a method moves along plain guidance, measured while sampling
"""
