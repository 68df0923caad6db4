"""Ours against hand-written Polars, DuckDB, pandas and delta-rs: the same work, in one run, checked to agree.

    python -m benchmarks                                   everything; `nox -s bench` installs the peers and Azurite
    python -m benchmarks --only returns,loads --rounds 9   some of it
    python -m benchmarks --small                           in seconds, to see that it works; its figures say nothing

``lakes.py`` makes the data, ``measure.py`` measures, ``report.py`` tells; each other module is one piece of
work, with the peers' versions in files of their own where they are long.
"""
