"""A module that hostile files name: nothing may import it."""

raise SystemExit("a file ran code")
