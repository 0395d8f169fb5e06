"""``python -m freepage_lab.cli``: the command, of the interpreter that runs."""

from freepage_lab.cli import main

main()
