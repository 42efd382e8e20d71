"""`python -m platform.report RUN`: the report of a run, rebuilt from what is stored."""

from platform._door import enter

if __name__ == "__main__":
    enter("report")
