"""Reports: what people look at. `plots` draws what `LuxorQuery` answers."""
