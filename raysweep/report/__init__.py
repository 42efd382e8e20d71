"""The report of a run, report.html: one file that says what was found, how it was searched for, and what it cost."""
