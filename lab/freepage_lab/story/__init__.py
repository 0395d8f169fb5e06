"""Stories from the kernel's history, replayed on the page cache with the numbers that were published then."""
