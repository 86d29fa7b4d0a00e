"""Run campaigns and print what they tried: python -m tests.fuzz --minutes 10 [NAME ...]."""

import argparse
import importlib
import time
from pathlib import Path

from tests.fuzz import Clock, Missing

CAMPAIGNS = sorted(
    path.stem
    for path in Path(__file__).parent.glob("*.py")
    if not path.stem.startswith(("_", "test_"))
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CAMPAIGNS))
    parser.add_argument("--minutes", type=float, default=10, help="of all of them together")
    parser.add_argument("--cases", type=int, help="of each, in place of --minutes")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    options = parser.parse_args()
    names = options.names or CAMPAIGNS
    if wrong := set(names) - set(CAMPAIGNS):
        parser.error(f"no campaign {', '.join(sorted(wrong))}; there are {', '.join(CAMPAIGNS)}")
    for name in names:
        limits = {"seconds": 60 * options.minutes / len(names)}
        if options.cases:
            limits = {"cases": options.cases}
        start = time.monotonic()
        campaign = importlib.import_module(f"tests.fuzz.{name}")
        try:
            figures = campaign.run(Clock(**limits), options.seed)
        except Missing as error:
            print(f"{name}: not run: {error}", flush=True)
            continue
        seconds = time.monotonic() - start
        print(f"{name}: {figures}; seed {options.seed}, {seconds:,.0f} s", flush=True)


if __name__ == "__main__":
    main()
