"""The old library's modules and names, on top of this one.

A script needs only the package's name changed, to ``luxor_pipelines.compat``: what it imported from ``datareader`` and
``ingest`` is here. A missing name raises an error with what to use instead; ``docs/migration.md`` has every method.
"""
