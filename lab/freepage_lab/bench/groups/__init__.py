"""The benches themselves, a module for each group."""
