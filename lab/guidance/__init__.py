"""Guidance: noise predictors made of a noise predictor, one file a method.

Every method has a weight w and, at its neutral settings, is plain classifier-free guidance at that weight, exactly.

    method              what a method is, and what it says of itself
    methods             the methods by name
    classifier_free     plain: classifier-free guidance
    limited_interval    interval: only between two noise levels
    weight_schedule     schedule: a weight that changes with t
    rescale             rescale: the width of the prediction taken back
    projected           projected: APG
    plus_plus           plus_plus: CFG++
    autoguidance        auto: away from a weaker checkpoint
    composed            composed: the classes of a label set one by one
    evaluation_counter  what a method costs
"""
