"""Statistics, risk, drawdowns, composites, interest and cash flows: pure functions, no I/O, no globals, no clock.

Prices are a frame with a column a series and a row a date, a cell null where the series was not observed.
All returns and rates are fractions: 0.05 is 5 %.
"""
