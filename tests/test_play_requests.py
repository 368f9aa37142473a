"""Requests of the page of `play`: each setting is checked, and so is what goes together."""

import json
from typing import Any

import pytest

from experiments.play.image_request import MOST_STEPS, read_request
from experiments.play.session import Session
from lab.errors import LabError
from lab.machine.computation import Computation
from lab.training.checkpoints import Checkpoint
from tests.played import REQUEST, TIMESTEPS, a_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return a_checkpoint(tmp_path_factory.mktemp("play") / "epoch0001.pt")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"label_set": ["rad"]}, "unknown class 'rad'; did you mean 'red'?"),
        ({"label_set": ["red", "red"]}, "occurs twice"),
        ({"label_set": [1]}, "a class is 1"),
        ({"label_set": "red"}, "--label-set is 'red'; it must be a list"),
        ({"label_set": []}, "no class is chosen"),
        ({"guidance_weight": 101}, "--guidance-weight is 101; it must be from -1 to 100"),
        ({"guidance_weight": float("nan")}, "--guidance-weight is nan"),
        ({"guidance_weight": None}, "--guidance-weight is empty; it must be a number"),
        ({"guidance_weight": True}, "--guidance-weight is True"),
        ({"seed": 1.5}, "--seed is 1.5; it must be a whole number"),
        ({"seed": 10**400}, "--seed is"),
        ({"method": "plane"}, "no method 'plane'"),
        ({"method": "interval:low=x"}, "low is 'x'; it must be a number"),
        ({"sampler": {"kind": "dim"}}, "--sampler.kind is 'dim'"),
        ({"sampler": {"kind": "ddim", "sampling_steps": 0}}, "--sampler.sampling-steps is 0"),
        ({"sampler": {"kind": "ddim", "sampling_steps": None}}, "--sampler.sampling-steps is empty"),
        ({"sampler": {"kind": "ddim", "sampling_steps": MOST_STEPS + 1}}, f"from 1 to {MOST_STEPS}"),
        ({"sampler": {"kind": "ddim", "eta": 2}}, "--sampler.eta is 2"),
        ({"sampler": {"kind": "ddim", "more": 2}}, "no setting 'more'"),
        ({"more": 1}, "must be a JSON object of label_set, guidance_weight"),
    ],
)
def test_each_setting_is_checked(checkpoint: Checkpoint, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(LabError) as raised:
        read_request(json.dumps(REQUEST | changes).encode(), checkpoint.vocabulary)
    assert told in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 10_000, b"1" * 5_000, b"null"])
def test_what_is_no_json_object_is_refused(checkpoint: Checkpoint, content: bytes) -> None:
    with pytest.raises(LabError, match="must be a JSON object"):
        read_request(content, checkpoint.vocabulary)


def test_settings_that_do_not_go_together_are_refused(checkpoint: Checkpoint) -> None:
    session = Session(checkpoint, Computation())
    for changes, told in (
        ({"sampler": {"kind": "ddim", "sampling_steps": TIMESTEPS + 1}}, "use at most as many as timesteps, 400"),
        ({"method": "plus_plus", "sampler": {"kind": "ancestral"}}, "needs deterministic ddim"),
        ({"method": "auto"}, "needs --weak-checkpoint"),
        ({"method": "composed:avoid=rad"}, "unknown class 'rad'"),
    ):
        with pytest.raises(LabError, match=told):
            session.require_fit(read_request(json.dumps(REQUEST | changes).encode(), checkpoint.vocabulary))
