"""`python -m platform.studies`: the studies there are, with task, data, space and baseline."""

from platform._door import enter

if __name__ == "__main__":
    enter("studies")
