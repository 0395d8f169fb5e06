"""Speed, measured as ratios: what freepage costs beside something everybody knows, in one run (docs/benchmarks.md)."""
