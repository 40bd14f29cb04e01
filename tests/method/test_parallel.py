"""Several processes do what one does: their shares put together, and two real ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from esd_core.config import preset
from esd_core.erasing import backward, erase
from esd_core.erasure import Erasure
from esd_core.examples import draw_one
from esd_core.support import parallel
from esd_core.support.parallel import Team
from esd_core.teacher import Teacher

ROOT = Path(parallel.__file__).parent.parent.parent
OPTIONS = dict(iterations=3, num_inference_steps=4, trajectories=3, learning_rate=1e-3)


def test_alone_a_process_has_all_the_work():
    team, device = parallel.join("cpu")
    assert (team, device) == (Team(0, 1), "cpu") and team.leads
    assert list(team.mine(3)) == [0, 1, 2] and team.everyones(1) == [1]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_work_is_shared_without_gap_or_overlap(count):
    parts = [list(Team(rank, 3).mine(count)) for rank in range(3)]
    assert sorted(sum(parts, [])) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("kind", ["erasing", "preserving"])
@pytest.mark.parametrize("size", [2, 3, 20])
def test_the_shares_of_a_loss_add_up_to_it_and_so_do_the_gradients(tiny, size, kind):
    config = preset("live", "a cat", **OPTIONS, batch_size=4, micro_batch_size=2, train_method="esd-x")
    step = next(erase(tiny, config))
    run, examples = step.run, step.examples
    batch = (examples.train[0] if kind == "erasing" else examples.preserve)[:5]

    def gradient(team):
        run.team = team
        run.optimizer.zero_grad()
        loss = backward(run, batch, 1.0)
        return loss, [p.grad.clone() for p in run.trained.values()]

    loss, expected = gradient(Team())
    shares = [gradient(Team(rank, size)) for rank in range(size)]
    assert_close(sum(share for share, _ in shares), loss)
    for index, wanted in enumerate(expected):
        assert_close(sum(found[index] for _, found in shares), wanted, atol=1e-6, rtol=1e-4)


def test_two_processes_learn_what_one_does(tiny, tmp_path):
    tiny.to_pipeline().save_pretrained(tmp_path / "model")
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "--main_process_port",
        "0",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "-m",
        "esd_core",
        "erase",
        "a cat",
        "--json",
        "--device",
        "cpu",
        "--preset",
        "live",
        "--model",
        str(tmp_path / "model"),
        "--out",
        str(tmp_path / "two"),
        *(f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()),
    ]
    made = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=280,
        cwd=ROOT,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)  # one of them speaks
    assert told["ending"] == "done" and told["updates"] == 3
    *_, last = erase(tiny, preset("live", "a cat", **OPTIONS))
    two = Erasure.load(tmp_path / "two" / "erasure.safetensors")
    base = {name: tiny.unet.get_parameter(name).detach() for name in two.changes}
    changes = [(last.erasure.value(n, w) - w, two.value(n, w) - w) for n, w in base.items()]
    moved = sum(one.square().sum() for one, _ in changes).sqrt()
    apart = sum((one - other).square().sum() for one, other in changes).sqrt()
    assert apart < 0.01 * moved


def test_a_drawing_for_one_update_is_the_same_however_many_share_it(tiny):
    config = preset("paper", "a cat", iterations=1, num_inference_steps=4, trajectories=3, batch_size=3)
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    alone = draw_one(Teacher(tiny, config), generators[0])
    parts = []
    for rank in range(4):  # one more than there are trajectories
        generator = torch.Generator().manual_seed(5)
        seen = Recorder(rank, 4, [])
        try:
            draw_one(Teacher(tiny, config, team=seen), generator)
        except StopIteration:
            parts.append([few for part in seen.given[0] for few in part])
        assert torch.equal(generator.get_state(), generators[0].get_state())
    assert sorted(map(len, parts)) == [0, 1, 1, 1]
    drawn = [few for part in parts for few in part]
    together = torch.cat([few.x_t for few in drawn])
    assert_close(together, alone.x_t, atol=1e-5, rtol=1e-4)
    assert torch.equal(torch.cat([few.t for few in drawn]), alone.t)


class Recorder(Team):
    """Notes what a process would send, and sends nothing."""

    def __init__(self, rank, size, given):
        super().__init__(rank, size)
        object.__setattr__(self, "given", given)

    def everyones(self, value):
        self.given.append(value)
        raise StopIteration
