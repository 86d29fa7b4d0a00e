"""``python -m bench``: one command per benchmark, and the report."""

import os
import subprocess
import sys

import typer

from bench.measure.accuracy import accuracy
from bench.measure.change import change
from bench.measure.cold import cold
from bench.measure.compare import Cores, Engines, Quick
from bench.measure.long import long
from bench.measure.lookahead import lookahead
from bench.measure.memory import memory
from bench.measure.paced import paced
from bench.measure.policy import policy
from bench.measure.speed import generate, pool, sequence, step
from bench.measure.tasks import tasks
from bench.measure.vad import vad
from bench.report import report
from numlstm.kernels.cpu import LEVEL

AVX2 = "x86-64-v3"  # the level

app = typer.Typer(
    help="Measure numlstm beside other engines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command("all")
def everything(quick: Quick = False, core: Cores = None, engine: Engines = None) -> None:
    """Run all but accuracy, lookahead, policy, tasks, vad: here, with two threads, and as AVX2."""
    for benchmark in (step, sequence, pool, generate, paced, cold, memory, long):
        benchmark(quick, None, core, engine)
    if (os.cpu_count() or 1) > 1:
        for benchmark in (step, sequence, pool):
            benchmark(quick, None, None, engine, threads=2)
    if LEVEL.vectors == "AVX-512":
        options = ["--quick"] * quick
        options += [f"--core={each}" for each in core or ()]
        options += [f"--engine={each}" for each in engine or ()]
        for name in ("step", "sequence", "pool", "paced"):
            command = [sys.executable, "-m", "bench", name, *options]
            subprocess.run(command, env=os.environ | {"NUMLSTM_LEVEL": AVX2}, check=True)


for command in (
    step,
    sequence,
    pool,
    generate,
    paced,
    cold,
    memory,
    long,
    tasks,
    vad,
    policy,
    accuracy,
    lookahead,
    change,
    report,
):
    app.command()(command)

if __name__ == "__main__":
    # What a library prints is no page.
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    app()
