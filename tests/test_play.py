"""The command `play`: its images are those of `sample`, one is sampled at a time, and no other site gets an answer."""

import asyncio
import base64
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lab
import run_experiments
from evaluator.classifiers.weights import load_evaluator
from experiments.play.configuration import Play
from experiments.play.image_request import read_request
from experiments.play.page import contents, play_page
from experiments.play.server import MOST_BYTES, Turns
from experiments.play.session import Moment, Predictions, Session
from lab.configuration.networks import ContextUnetConfig
from lab.data.labelled_images import to_pixels
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.schedules import noise_schedule
from lab.errors import LabError
from lab.machine.computation import Computation
from lab.networks.registry import build_denoiser
from lab.pipelines import import_pipeline
from lab.sweep.cells import noise_seeds_of
from lab.training.checkpoints import Checkpoint
from tests.command import PROJECT
from tests.played import REQUEST, SHAPE, TIMESTEPS, Served, a_checkpoint, served, served_checkpoint
from tests.test_sample_pipeline import pipeline

BLACK = torch.zeros(SHAPE, dtype=torch.uint8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return a_checkpoint(tmp_path_factory.mktemp("play") / "epoch0001.pt")


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_checkpoint(tmp_path_factory.mktemp("served")) as opened:
        yield opened


def moments(checkpoint: Checkpoint, **changes: Any) -> list[Moment]:
    wanted = read_request(json.dumps(REQUEST | changes).encode(), checkpoint.vocabulary)
    return list(Session(checkpoint, Computation()).moments(wanted))


@pytest.mark.parametrize("weight", [-1, 0, 2.5])
@pytest.mark.parametrize("method", ["plain", "interval:low=0.5,high=2", "projected", "composed"])
@pytest.mark.parametrize("label_set", [["red"], ["blue", "red"]])
def test_the_image_is_that_of_sample(checkpoint: Checkpoint, weight: float, method: str, label_set: list[str]) -> None:
    found = moments(checkpoint, guidance_weight=weight, method=method, label_set=label_set)
    expected = lab.sample(
        checkpoint, [label_set], weight, guidance=method, sampler=lab.DDIMConfig(sampling_steps=5), seed=3,
        device="cpu", precision="float32", progress=False,
    )  # fmt: skip
    assert torch.equal(found[-1].image, expected[0])
    assert [moment.step for moment in found] == [1, 2, 3, 4, 5]
    assert [moment.predictions.timestep for moment in found] == [399, 319, 239, 159, 79]


@pytest.mark.parametrize("weight", [-1, 0, 2])
def test_the_predictions_are_the_networks_clean_images(checkpoint: Checkpoint, weight: float) -> None:
    schedule, network = noise_schedule(checkpoint.schedule), checkpoint.noise_predictor()
    x_t = NoiseSource(noise_seeds_of("ask", 3, 1), SHAPE).draw()
    t = torch.tensor([TIMESTEPS - 1])
    with torch.inference_mode():
        conditional = network(x_t, t, torch.tensor([[1.0, 0.0, 0.0]]))
        unconditional = network(x_t, t, torch.zeros(1, 3))
    mixed = (1 + weight) * conditional - weight * unconditional
    found = moments(checkpoint, guidance_weight=weight)[0].predictions
    assert found.unconditional is not None
    for image, eps in zip(
        (found.conditional, found.unconditional, found.mixed), (conditional, unconditional, mixed), strict=True
    ):
        x_0 = (x_t - float(schedule.sigma[-1]) * eps) / float(schedule.alpha[-1])
        # float32 loses digits where alpha is small.
        assert int((image.int() - to_pixels(x_0)[0].int()).abs().max()) <= 3


def test_a_network_without_a_null_condition_has_one_prediction(tmp_path: Path) -> None:
    imported = import_pipeline(pipeline(tmp_path / "pipeline", num_class_embeds=3))
    session = Session(imported, Computation())
    assert (session.has_null_condition, session.most_classes) == (False, 1)
    wanted = REQUEST | {"label_set": ["2"], "guidance_weight": 0}
    found = list(session.moments(read_request(json.dumps(wanted).encode(), imported.vocabulary)))
    assert [moment.predictions.unconditional for moment in found] == [None] * 5
    assert torch.equal(found[0].predictions.mixed, found[0].predictions.conditional)
    with pytest.raises(LabError, match="no null condition"):
        list(session.moments(read_request(json.dumps(wanted | {"guidance_weight": 2}).encode(), imported.vocabulary)))


class Slow(Session):
    """A session whose steps take a while, and which notes how many are computed at once."""

    def __init__(self) -> None:  # it needs no checkpoint
        self.now, self.most, self.steps = 0, 0, 0

    def moments(self, wanted: object) -> Iterator[Moment]:
        for step in range(1, 101):
            self.now += 1
            self.most = max(self.most, self.now)
            time.sleep(0.002)
            self.steps += 1
            self.now -= 1
            yield Moment(step, BLACK, Predictions(0, BLACK, BLACK, BLACK), 0.0)

    def warning(self, wanted: object) -> None:
        return None

    def opinion(self, image: object) -> None:
        return None


def test_a_newer_request_ends_the_older_ones_and_one_is_sampled_at_a_time(checkpoint: Checkpoint) -> None:
    slow = Slow()
    turns = Turns(slow)
    wanted = read_request(json.dumps(REQUEST).encode(), checkpoint.vocabulary)

    async def answered(begins: float) -> list[dict[str, Any]]:
        await asyncio.sleep(begins)
        return [json.loads(line) async for line in turns.answer(wanted)]

    async def all_of_them() -> list[list[dict[str, Any]]]:
        return await asyncio.gather(*(answered(0.02 * number) for number in range(5)))

    *older, newest = asyncio.run(all_of_them())
    for lines in older:
        assert lines[-1] == {"replaced": True}
        assert len(lines) < 100
    assert [line.get("step") for line in newest] == [*range(1, 101), None]
    assert newest[-1]["finished"]
    assert slow.most == 1
    # Each older one computed what it showed, and at most one step more.
    assert slow.steps <= sum(map(len, older)) + 100


def test_the_page_names_what_there_is_and_hides_what_there_is_not(checkpoint: Checkpoint) -> None:
    page = play_page(Session(checkpoint, Computation()), Path("<b>.pt"))
    assert "<title>play: &lt;b&gt;.pt</title>" in page.html
    assert "default-src 'none'" in page.policy
    assert "unsafe" not in page.policy
    assert "http" not in page.policy
    known = json.loads(page.html.split('id="contents">')[1].split("</script>")[0])
    assert known["classes"] == ["red", "green", "blue"]
    assert {"name": "interval", "settings": "low=0.3,high=5.0", "given": ""} in known["methods"]
    assert "auto" not in [method["name"] for method in known["methods"]]
    assert known["judged"] is False


def test_noise_on_the_condition_is_neither_offered_nor_taken_if_the_network_reads_classes_alone(
    checkpoint: Checkpoint,
) -> None:
    config = ContextUnetConfig(n_feat=8, attention="objects", bottleneck="map")
    weights = build_denoiser(config, SHAPE, checkpoint.vocabulary.names, checkpoint.schedule, seed=0).state_dict()
    objects = replace(checkpoint, denoiser=config, weights=weights)
    offered = [
        {method["name"] for method in contents(Session(each, Computation()), Path("x.pt"))["methods"]}
        for each in (checkpoint, objects)
    ]
    assert offered[0] - offered[1] == {"annealed"}
    wanted = read_request(json.dumps(REQUEST | {"method": "annealed"}).encode(), checkpoint.vocabulary)
    Session(checkpoint, Computation()).require_fit(wanted)
    with pytest.raises(LabError, match="annealed adds noise to the condition"):
        Session(objects, Computation()).require_fit(wanted)


def test_an_experiment_is_played_from_its_last_checkpoint(tmp_path: Path) -> None:
    for epoch in (9, 100, 20):
        a_checkpoint(tmp_path / "checkpoints" / "own" / f"epoch{epoch:04d}.pt")
    settings = Play("own", root=tmp_path)
    assert settings.source() == tmp_path / "checkpoints" / "own" / "epoch0100.pt"
    assert settings.evaluator_file() == tmp_path / "checkpoints" / "own" / "evaluator.pt"
    # This preset sweeps the checkpoints of another.
    a_checkpoint(tmp_path / "checkpoints" / "digits" / "epoch0001.pt", judged=False)
    settings = Play("digits-guidance", root=tmp_path)
    assert settings.source() == tmp_path / "checkpoints" / "digits" / "epoch0001.pt"
    assert settings.evaluator_file() is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("digits",), "no checkpoint; run `run_experiments.py digits` first"),
        (("own",), "no checkpoint; run `run_experiments.py digits` first, or give --checkpoint FILE"),
        ((), "exactly one of an experiment's name, --checkpoint and --pipeline is needed"),
        (("digits", "--checkpoint", "x.pt"), "given: more than one"),
        (("../digits",), "--name is '../digits'"),
        (("--checkpoint", "x.pt"), "x.pt: no such checkpoint"),
        (("digits", "--port", "80"), "--port is 80; it must be from 1024 to 65535"),
    ],
)
def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str) -> None:
    assert run_experiments.main(["play", *arguments, "--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.strip().splitlines()) == 1


def test_an_evaluator_of_other_classes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_checkpoint(tmp_path / "epoch0001.pt", judged=False)
    a_checkpoint(tmp_path / "other" / "epoch0001.pt", names=("a", "b"))
    files = ["--checkpoint", str(tmp_path / "epoch0001.pt"), "--evaluator", str(tmp_path / "other" / "evaluator.pt")]
    assert run_experiments.main(["play", *files]) == 2
    assert "evaluator.pt: has 2 classes" in capsys.readouterr().err


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("experiments.play.command.find_spec", lambda name: None)
    assert run_experiments.main(["play", "digits"]) == 2
    assert "pip install -e '.[page]'" in capsys.readouterr().err


def test_help_imports_neither_torch_nor_the_server() -> None:
    code = (
        "import sys, run_experiments\n"
        "try:\n    run_experiments.main(['play', '--help'])\n"
        "finally:\n    print({'torch', 'uvicorn', 'starlette'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "set()"
    assert "--weak-checkpoint" in done.stdout


@pytest.mark.long
def test_the_answer_has_every_step_and_the_evaluators_opinion(command: Served) -> None:
    *steps, finished = command.sample()
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5]
    for line in steps:
        for row in ("image", "conditional", "unconditional", "mixed"):
            assert len(base64.b64decode(line[row])) == np.prod(SHAPE)
    times = [line["milliseconds"] for line in (*steps, finished)]
    assert times == sorted(times)
    assert sorted(name for name, _ in finished["seen"]) == ["blue", "green", "red"]
    probabilities = [probability for _, probability in finished["seen"]]
    assert probabilities == sorted(probabilities, reverse=True)
    (refused,) = command.sample(sampler={"kind": "ddim", "sampling_steps": 2.5})
    assert refused == {"error": "--sampler.sampling-steps is 2.5; it must be of type int"}
    assert command.sample(guidance_weight=-0.5, method="plus_plus")[0]["warning"].startswith(
        "guidance method plus_plus"
    )


@pytest.mark.long
def test_other_sites_get_no_answer(command: Served) -> None:
    own = f"127.0.0.1:{command.port}"
    assert command.get().status == 200
    assert command.get(Host=f"localhost:{command.port}").status == 200
    body = json.dumps(REQUEST)
    assert command.post(body, Origin=f"http://{own}").status == 200
    for headers in (
        {"Host": "example.com"},
        {"Host": f"example.com:{command.port}"},
        {"Host": "127.0.0.1:1"},
        {"Origin": "http://example.com"},
        {"Origin": "null"},
        {"Origin": f"https://{own}"},
        {"Origin": f"http://localhost:{command.port}"},
    ):
        assert command.get(**headers).status == 403, headers
        assert command.post(body, **headers).status == 403, headers
    headers = dict(command.get().getheaders())
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


@pytest.mark.long
def test_only_the_loopback_address_is_served(command: Served) -> None:
    with socket.socket() as elsewhere:
        # Another address of this machine; on Linux, all of 127/8 are.
        assert elsewhere.connect_ex(("127.0.0.2", command.port)) != 0


@pytest.mark.long
def test_a_request_is_bounded_in_size(command: Served) -> None:
    answer = command.post(json.dumps(REQUEST | {"method": "x" * MOST_BYTES}))
    assert answer.status == 400
    assert json.loads(answer.read()) == {"error": f"the request is too large; it may have {MOST_BYTES} bytes"}
    assert command.sample()[-1]["finished"]


@pytest.mark.long
def test_an_answer_that_nobody_reads_is_computed_no_further(command: Served) -> None:
    long = {"sampler": {"kind": "ddim", "sampling_steps": TIMESTEPS}}
    answer = command.post(json.dumps(REQUEST | long))
    assert json.loads(answer.readline())["step"] == 1
    answer.close()
    before = cpu_seconds(command)
    time.sleep(3)
    assert cpu_seconds(command) - before < 1


def cpu_seconds(command: Served) -> float:
    import psutil

    times = psutil.Process(command.process.pid).cpu_times()
    return float(times.user + times.system)


@pytest.mark.long
def test_ctrl_c_ends_the_command_while_it_samples(tmp_path: Path) -> None:
    a_checkpoint(tmp_path / "epoch0001.pt", judged=False)
    with served("--checkpoint", str(tmp_path / "epoch0001.pt")) as opened:
        with socket.socket() as other:
            assert other.connect_ex(("127.0.0.1", opened.port)) == 0  # a browser keeps a connection open
            long = {"sampler": {"kind": "ddim", "sampling_steps": TIMESTEPS}}
            lines: list[Any] = []
            reading = threading.Thread(target=lambda: lines.append(opened.post(json.dumps(REQUEST | long)).readline()))
            reading.start()
            reading.join()
            opened.process.send_signal(signal.SIGINT)
            out, error = opened.process.communicate(timeout=30)
        assert json.loads(lines[0])["step"] == 1
        assert opened.process.returncode == 0
        assert out.splitlines()[-1] == "ended"
        assert "Traceback" not in error
        assert error.strip() == ""


@pytest.mark.long
def test_a_port_in_use_is_refused(command: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_checkpoint(tmp_path / "epoch0001.pt", judged=False)
    files = ["--checkpoint", str(tmp_path / "epoch0001.pt")]
    assert run_experiments.main(["play", *files, "--port", str(command.port)]) == 2
    assert f"--port {command.port} cannot be used" in capsys.readouterr().err


def test_the_evaluator_guides_if_there_is_one(tmp_path: Path) -> None:
    checkpoint = a_checkpoint(tmp_path / "epoch0001.pt")
    judge = load_evaluator(tmp_path / "evaluator.pt", checkpoint.vocabulary, torch.device("cpu"))
    wanted = read_request(json.dumps(REQUEST | {"method": "classifier:by=judge"}).encode(), checkpoint.vocabulary)
    session = Session(checkpoint, Computation(), judge)
    session.require_fit(wanted)
    expected = lab.sample(
        checkpoint, [["red"]], 2.0, guidance="classifier:by=guide", guide=judge.classifier, seed=3,
        sampler=lab.DDIMConfig(sampling_steps=5), device="cpu", precision="float32", progress=False,
    )  # fmt: skip
    (*_, last) = session.moments(wanted)
    assert torch.equal(last.image, expected[0])
    assert (last.image != moments(checkpoint)[-1].image).any()
    with pytest.raises(LabError, match="guides by its evaluator alone"):
        Session(checkpoint, Computation()).require_fit(wanted)


def test_each_offered_method_samples(tmp_path: Path) -> None:
    checkpoint = a_checkpoint(tmp_path / "epoch0001.pt")
    judge = load_evaluator(tmp_path / "evaluator.pt", checkpoint.vocabulary, torch.device("cpu"))
    session = Session(checkpoint, Computation(), judge)
    offered = contents(session, tmp_path)["methods"]
    assert [method["name"] for method in offered[-2:]] == ["classifier", "dynamic"]
    for method in offered:
        text = f"{method['name']}:{method['given']}" if method["given"] else method["name"]
        wanted = read_request(json.dumps(REQUEST | {"method": text}).encode(), checkpoint.vocabulary)
        session.require_fit(wanted)
        assert len(list(session.moments(wanted))) == 5, text
