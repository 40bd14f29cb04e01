"""Several visitors at once: whose step is next, isolation, what they keep, what leaves with them."""

from __future__ import annotations

import datetime
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest
import torch
from gradio.state_holder import StateHolder
from gradio_client import Client
from gradio_client.exceptions import AppError

import app
from esd_core import DiffusionModel, Erasure
from esd_core.vocabulary import Vocabulary
from tests.app.test_app import COMPARE, CONCEPTS, cache, erased, fields  # noqa: F401
from tests.conftest import WORDS
from ui.erase import tab as erase_tab
from ui.server import memory, processor, stream, waiting
from ui.server.processor import compute, in_turns


@pytest.fixture(scope="module")
def model(tiny: DiffusionModel) -> DiffusionModel:
    return replace(tiny, vocabulary=Vocabulary(CONCEPTS, frozenset(WORDS)))


def wait_for(condition: Callable[[], bool], seconds: float = 200) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


# --- turns


def test_steps_are_computed_by_one_thread_in_the_order_in_which_they_are_asked_for(monkeypatch):
    asked, computed, lock = [], [], threading.Lock()

    class Line(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            with lock:
                asked.append(threading.current_thread().name)
                return super().submit(*args, **kwargs)

    def work(name: str) -> Iterator[int]:
        for i in range(20):
            computed.append((name, threading.get_ident()))
            yield i

    def together(name: str) -> None:
        for _ in in_turns(work)(name):
            pass

    monkeypatch.setattr(processor, "PROCESSOR", Line(1))
    threads = [threading.Thread(target=together, args=(name,), name=name) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A stream also asks for its end and to be closed, which compute nothing.
    steps = [name for i, name in enumerate(asked) if asked[:i].count(name) < 20]
    assert [name for name, _ in computed] == steps and len(steps) == 60
    assert len({thread for _, thread in computed}) == 1


def test_a_failure_or_an_end_hands_the_turn_on():
    def fails() -> Iterator[int]:
        yield 1
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(in_turns(fails)())
    assert compute(lambda: 5) == in_turns(lambda: 5)() == 5
    assert compute(compute, lambda: 5) == 5  # the thread does not wait for itself


def test_closing_a_stream_closes_what_it_wraps():
    closed = []

    def stream() -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            closed.append(True)

    running = in_turns(stream)()
    assert next(running) == 0
    running.close()
    assert closed == [True]


def test_the_long_events_of_the_page_share(model: DiffusionModel):
    demo = app.build_demo(model)
    long = [event for event in demo.fns.values() if event.concurrency_id == waiting.MODEL]
    assert {event.api_name for event in long} >= {"compare", "probe"}
    assert all(event.concurrency_limit == waiting.AT_ONCE for event in long)
    runs = [event for event in demo.fns.values() if event.concurrency_id == waiting.RUN]
    assert {event.api_name for event in runs} == {"erase", "continue"}
    (grid,) = (event for event in demo.fns.values() if event.concurrency_id == waiting.GRID)
    assert grid.api_name == "grid" and grid.concurrency_limit == waiting.IN_LINE  # as Stop must reach it


# --- what they keep


def test_a_tensor_is_counted_once(model: DiffusionModel):
    cat = erased(model, iterations=1)
    own = sum(4 * t.numel() for t in cat.tensors.values())
    assert memory.tensor_bytes(cat.tensors) == own <= memory.tensor_bytes(cat)
    assert memory.tensor_bytes({"a": cat, "b": [cat, (cat,)]}) == memory.tensor_bytes(cat)
    assert memory.tensor_bytes(None) == memory.tensor_bytes("text") == 0
    assert memory.tensor_bytes(torch.nn.Linear(2, 3)) == 4 * 9


def test_a_huge_run_cannot_be_continued_but_leaves_its_erasure(model, monkeypatch):
    monkeypatch.setattr(memory, "RESTING", 1000)
    shown = list(erase_tab.erase(model, **fields(iterations=1)))
    kept = [s.erasure for s in shown if s.erasure is not stream.SKIP][-1]
    assert kept.provenance["iterations_done"] == 1
    assert all(s.paused in (None, stream.SKIP) for s in shown)


def session(holder: Any, key: str, value: Any, age: float) -> None:
    state = next(i for i, b in holder.blocks.blocks.items() if isinstance(b, gr.State))
    holder[key][state] = value
    holder.time_last_used[key] = datetime.datetime.now() - datetime.timedelta(seconds=age)


def test_the_longest_idle_visitor_makes_room_and_nobody_active(model: DiffusionModel):
    holder = StateHolder()
    holder.blocks = app.build_demo(model)
    for key, age in (("old", 500), ("older", 400), ("new", 0)):
        session(holder, key, Erasure({"w": torch.zeros(100)}, ""), age)
    each = 400
    assert memory.make_room(holder, most=3 * each) == 0
    assert memory.make_room(holder, most=2 * each) == 1
    assert list(memory.kept(holder).values()) == [0, each, each]
    assert memory.make_room(holder, most=0) == 1
    assert memory.kept(holder)["new"] == each


def test_a_page_that_was_left_takes_no_ones_place(model: DiffusionModel, monkeypatch):
    demo, now = app.build_demo(model), datetime.datetime.now
    holder = StateHolder()
    demo.state_session_capacity = 3
    holder.set_blocks(demo)
    session(holder, "working", Erasure({"w": torch.zeros(100)}, ""), 0)
    session(holder, "back", Erasure({"w": torch.zeros(100)}, ""), 0)
    for i in range(5):  # pages that come and go
        holder[f"visit {i}"]
        memory.left(holder, f"visit {i}")
        assert f"visit {i}" in holder  # its connection may come back
        memory.forget(holder, f"visit {i}", now())
        assert f"visit {i}" not in holder
    memory.forget(holder, "back", now() - datetime.timedelta(minutes=1))  # it has made something since
    assert list(memory.kept(holder).values()) == [400, 400]


def test_what_a_page_kept_goes_with_it(model: DiffusionModel, monkeypatch):
    monkeypatch.setattr(memory, "GRACE", 0.2)
    holder = StateHolder()
    holder.set_blocks(app.build_demo(model))
    session(holder, "gone", Erasure({"w": torch.zeros(100)}, ""), 0)
    memory.left(holder, "gone")
    memory.left(holder, "never came")
    assert memory.kept(holder) == {"gone": 400}
    assert wait_for(lambda: memory.kept(holder) == {})


def test_two_threads_may_drop_the_same_page(model: DiffusionModel):
    holder = StateHolder()
    holder.set_blocks(app.build_demo(model))
    session(holder, "gone", Erasure({"w": torch.zeros(100)}, ""), 0)
    (state,) = (block for block, *_ in holder["gone"].state_components)

    def meanwhile(_: object) -> None:
        state.delete_callback = lambda _: None
        memory.drop(holder, "gone")

    state.delete_callback = meanwhile
    memory.drop(holder, "gone")
    assert memory.kept(holder) == {"gone": 0}


def test_a_visitor_at_work_outlasts_many_pages(model: DiffusionModel):
    demo = app.build_demo(model)
    app.launch(demo, prevent_thread_lock=True, quiet=True)
    holder = demo.state_holder
    session(holder, "working", Erasure({"w": torch.zeros(100)}, ""), 0)
    for i in range(100):
        holder[f"page {i}"]
    demo.close()
    assert memory.kept(holder)["working"] == 400


# --- the served app


@pytest.fixture
def demo(model: DiffusionModel) -> Iterator[gr.Blocks]:
    built = app.build_demo(model)
    app.launch(built, prevent_thread_lock=True, quiet=True)
    yield built
    built.close()


def visitor(demo: gr.Blocks) -> Client:
    return Client(demo.local_url, verbose=False)


def test_three_at_once_get_their_own(demo: gr.Blocks):
    wanted = {"cat": 3, "dog": 4, "rocket": 5}
    clients = {name: visitor(demo) for name in wanted}
    jobs = {
        name: clients[name].submit(**fields(concept=name, seed=seed), api_name="/erase")
        for name, seed in wanted.items()
    }
    for job in jobs.values():
        job.result(timeout=280)
    with ThreadPoolExecutor(3) as pool:
        compared = dict(
            zip(
                wanted,
                pool.map(lambda client: client.predict(**COMPARE, api_name="/compare"), clients.values()),
                strict=True,
            )
        )
    for name, shown in compared.items():
        assert f"“a {name}” (esd-x, 6 updates)" in shown[0]
        assert not any(f"“a {other}” (esd-" in shown[0] for other in wanted if other != name)
    assert len({shown[1] for shown in compared.values()}) == 3  # the pictures differ
    with pytest.raises(AppError, match="nothing is erased"):
        visitor(demo).predict(**COMPARE, api_name="/compare")


def test_a_long_run_locks_nobody_out_and_goes_on(demo: gr.Blocks):
    ann, bob = visitor(demo), visitor(demo)
    long = ann.submit(**fields(iterations=100_000), api_name="/erase")
    assert wait_for(lambda: "of 100000 · " in str(long.outputs()[-1:]))
    before = len(long.outputs())
    assert "Done." in bob.predict(**fields(concept="dog"), api_name="/erase")[0]
    assert "“a dog” (esd-" in bob.predict(**COMPARE, api_name="/compare")[0]
    assert not long.done() and len(long.outputs()) > before
    long.cancel()


def test_others_compute_between_the_steps_of_a_comparison(demo: gr.Blocks):
    ann = visitor(demo)
    ann.predict(**fields(iterations=1), api_name="/erase")
    job = ann.submit(**{**COMPARE, "num_inference_steps": 100}, api_name="/compare")
    assert wait_for(lambda: "Drawing the column base: step" in str(job.outputs()[-1:]))
    assert compute(job.done) is False  # computed between two of its steps
    assert "“a cat” (esd-x, 1 update)" in job.result(timeout=200)[0]
    done = [float(v) for v in re.findall(r'progress max="1" value="([0-9.]+)"', str(job.outputs()))]
    assert done == sorted(done) and 0 < done[0] < done[-1] == 1


def test_long_runs_leave_room_for_a_comparison_and_a_run_in_line_can_be_stopped(demo: gr.Blocks):
    cat = visitor(demo)
    cat.predict(**fields(iterations=1), api_name="/erase")
    many = [visitor(demo) for _ in range(waiting.PLACES + 2)]
    jobs = [ann.submit(**fields(iterations=100_000), api_name="/erase") for ann in many]
    begun = lambda job: "update " in str(job.outputs())  # noqa: E731
    assert wait_for(lambda: sum(map(begun, jobs)) == waiting.PLACES)
    assert "“a cat” (esd-x, 1" in cat.predict(**COMPARE, api_name="/compare")[0]
    held = [job for job in jobs if not begun(job)]
    said = sorted(job.outputs()[-1][0] for job in held)
    assert "2 other runs" in said[0] and "another run" in said[1]
    ann = many[jobs.index(held[0])]
    ann.close()  # as Stop does, it sets the turn's flag
    assert wait_for(held[0].done) and not begun(held[0])
    next(job for job in jobs if begun(job)).cancel()
    assert wait_for(lambda: begun(held[1]))
    for job in jobs:
        job.cancel()


def test_a_closed_tab_ends_its_run_and_what_it_kept_goes(demo: gr.Blocks, monkeypatch):
    monkeypatch.setattr(memory, "GRACE", 3)
    ann = visitor(demo)
    long = ann.submit(**fields(iterations=100_000), api_name="/erase")
    held = lambda: sum(memory.kept(demo.state_holder).values())  # noqa: E731
    assert wait_for(lambda: held() > 0 and len(long.outputs()) > 8)
    assert not long.done()
    ann.close()
    assert wait_for(long.done)
    assert wait_for(lambda: held() == 0)


def test_a_closed_tab_ends_its_grid(demo: gr.Blocks):
    ann = visitor(demo)
    ann.predict(**fields(iterations=1), api_name="/erase")
    job = ann.submit(
        prompt="a dog",
        seed="1",
        strength=1.0,
        guidance_scale=3.0,
        steps=100,
        scheduler="ddim",
        across="seed",
        columns=", ".join(map(str, range(12))),
        down="prompt",
        rows="a cat; a dog; a rocket",
        api_name="/grid",
    )
    assert wait_for(lambda: "Picture 1 of 36" in str(job.outputs()))
    ann.close()
    assert wait_for(job.done)
    assert "36 of 36 pictures" not in str(job.outputs())


def test_an_open_tab_keeps_what_it_has(demo: gr.Blocks, monkeypatch):
    monkeypatch.setattr(memory, "GRACE", 0)
    ann, bob = visitor(demo), visitor(demo)
    ann.predict(**fields(iterations=1), api_name="/erase")
    bob.predict(**fields(iterations=1), api_name="/erase")
    bob.close()
    assert wait_for(lambda: [bool(v) for v in memory.kept(demo.state_holder).values()].count(True) == 1)
    assert "“a cat” (esd-x, 1" in ann.predict(**COMPARE, api_name="/compare")[0]
