"""The command `sweep`: a table of runs in, one table and one sheet out.

Heavy modules are imported where they are used, so that `--help` is quick.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from esd_core.cli.command_options import Device, Model, load, note, option

Table = Annotated[
    Path,
    typer.Argument(
        help="CSV with a header: concept, and if you like erase_from, preset and any option of "
        "erase, such as train_method, eta, seed. A cell may list values between semicolons; the "
        "line then stands for all combinations."
    ),
]
Out = Annotated[
    Path | None,
    option("Folder of the results; default: outputs/<table's name>. Finished runs in it are not repeated."),
]
Processes = Annotated[int, typer.Option(min=1, max=64, help="To spread the runs over.")]


def sweep(
    table: Table, out: Out = None, processes: Processes = 1, model: Model = "emoji", device: Device = None
) -> None:
    """Erase many times, over concepts, methods, strengths and seeds; resumes after a kill.

    Writes a folder per run, and over all of them results.csv and sheet.png.
    """
    from esd_core import parallel
    from esd_core.cli import sweep
    from esd_core.files import write_text
    from esd_core.study import figures

    planned = sweep.read_table(table.read_text(encoding="utf-8"), model)
    if processes > 1:
        raise typer.Exit(launch(processes, table, out, model, device))
    team, device = parallel.join(device)
    loaded = load(model, device)
    # Refuses what the model cannot read before any run.
    planned = sweep.of_model(planned, loaded)
    out = out or Path("outputs") / table.stem
    mine = sweep.share(loaded, planned, out, team)
    for done, run in enumerate(sweep.carry_out(loaded, mine, out), 1):
        note(f"{f'process {team.rank}: ' * (team.size > 1)}{done} of {len(mine)}: {run.name}")
    team.wait()
    team.leave()
    if team.leads:
        write_text(out / "results.csv", sweep.as_csv(sweep.gathered(planned, out)))
        figures.save_png(sweep.sheet(planned, out), out / "sheet.png")
        typer.echo(f"{out / 'results.csv'}\n{out / 'sheet.png'}")


def launch(processes: int, table: Path, out: Path | None, model: str, device: str | None) -> int:
    """The same command in several processes; its exit code."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes)]
    command += ["-m", "esd_core", "sweep", str(table), "--model", model]
    command += ["--out", str(out)] if out else []
    command += ["--device", device] if device else []
    return subprocess.run(command, check=False).returncode
