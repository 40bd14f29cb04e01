"""Four visitors at once: how long each waits, and what visitors who came and went leave in memory.

The app runs in a process of its own, as `make app` starts it, and is driven through its API. First
each visitor does one thing alone; then all at once, while the first one's training has no end.

    python -m bench.visitors --sessions 50 --out bench/results/visitors.json
"""

from __future__ import annotations

import argparse
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradio_client import Client

from bench import measured
from ui.server import memory

ENDLESS = 100_000  # iterations, more than anybody waits for
Timed = dict[str, float]  # seconds until the first answer, and until the last


@contextmanager
def served() -> Iterator[tuple[str, int]]:
    """The app: its address and process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "app.py", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(url, process)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def wait_until_up(url: str, process: subprocess.Popen) -> None:
    """Return once it answers."""
    while process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the app ended before it answered")


def timed(client: Client, api_name: str, **values: Any) -> Timed:
    """One call, from asking to its first and its last answer."""
    begun = time.perf_counter()
    job = client.submit(api_name=api_name, **values)
    first = None
    for _ in job:  # one answer for each moment of a stream
        first = first or time.perf_counter() - begun
    job.result()
    whole = time.perf_counter() - begun
    return {"first": first or whole, "whole": whole}


def erasing(client: Client, concept: str) -> Timed:
    """The live preset."""
    return timed(client, "/erase", concept=concept)


def comparing(client: Client) -> Timed:
    """Two prompts, two seeds, three columns, with a ready-made erasure."""
    client.predict("cat", api_name="/use_erasure")
    return timed(client, "/compare", prompt="a cat\na dog", seeds="1, 2")


def looking(client: Client) -> Timed:
    """Every prediction at one noisy latent."""
    return timed(client, "/scores", prompt="cat")


DOES: dict[str, Callable[[Client], Timed]] = {
    "erases a dog": lambda client: erasing(client, "dog"),
    "compares": comparing,
    "looks at scores": looking,
}


def waiting(url: str) -> dict[str, dict[str, Timed]]:
    """Each visitor alone, then all beside a training that does not end."""
    clients = {name: Client(url, verbose=False) for name in DOES}
    times: dict[str, dict[str, Timed]] = {"warm": {}, "alone": {}}
    for part in times.values():
        part |= {name: do(clients[name]) for name, do in DOES.items()}
    first = Client(url, verbose=False)
    endless = first.submit(concept="cat", iterations=ENDLESS, api_name="/erase")
    while not update(endless):
        time.sleep(0.1)
    begun, before = time.perf_counter(), update(endless)
    with ThreadPoolExecutor(len(DOES)) as pool:
        jobs = {name: pool.submit(do, clients[name]) for name, do in DOES.items()}
        times["together"] = {name: job.result() for name, job in jobs.items()}
    made, took = update(endless) - before, time.perf_counter() - begun
    endless.cancel()
    print(f"meanwhile the endless training made {made} updates in {took:.1f} s")
    del times["warm"]
    return times


def update(job: Any) -> int:  # noqa: ANN401
    """How far a run is, by the latest status that says so."""
    for moment in reversed(job.outputs()):
        if found := re.search(r"update (\d+) of", str(moment[0])):
            return int(found[1])
    return 0


def coming_and_going(url: str, pid: int, sessions: int) -> dict[int | str, float]:
    """MB that the app holds after so many visitors erased something and closed the page, and when
    nothing of theirs is kept any longer."""
    held: dict[int | str, float] = {}
    for done in range(1, sessions + 1):
        client = Client(url, verbose=False)
        erasing(client, ("cat", "dog", "rocket")[done % 3])
        client.close()
        if done in (1, 5) or done % 10 == 0 or done == sessions:
            held[done] = measured.resident(process=pid)
            print(f"after {done} sessions: {held[done]:.0f} MB", flush=True)
    time.sleep(memory.GRACE + 120)  # Gradio looks for what has expired once in a while
    held["expired"] = measured.resident(process=pid)
    print(f"when they have expired: {held['expired']:.0f} MB")
    return held


def main(sessions: int, out: Path | None) -> None:
    """Measure, print, write."""
    result: dict[str, Any] = {"machine": measured.MACHINE, "date": time.strftime("%Y-%m-%d")}
    with served() as (url, pid):
        result["seconds"] = times = waiting(url)
        for name in DOES:
            alone, among = (times[part][name] for part in ("alone", "together"))
            print(
                f"{name:16} first answer {alone['first']:5.1f} -> {among['first']:5.1f} s, "
                f"last {alone['whole']:5.1f} -> {among['whole']:5.1f} s"
            )
    if sessions:
        with served() as (url, pid):
            result["MB after sessions"] = coming_and_going(url, pid, sessions)
    measured.write(result, out)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = measured.parser(__doc__)
    made.add_argument("--sessions", type=int, default=0)
    return made


if __name__ == "__main__":
    args = parser().parse_args()
    main(args.sessions, args.out)
