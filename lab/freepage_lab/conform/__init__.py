"""Conformance: workloads in a neutral step language, run here and compared with what a real Linux client did."""
