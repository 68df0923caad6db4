"""The old library's modules and names, on top of this one.

A script needs only the package's name changed, to ``luxor_pipelines.compat``: what it imported from ``datareader`` and
``ingest`` is here. What is not there says so, with what to use instead; ``docs/migration.md`` has every method.
"""
