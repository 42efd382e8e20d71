"""`python -m platform.runs`: the runs in a storage, with state, best value, lift, age and size."""

from platform._door import enter

if __name__ == "__main__":
    enter("runs")
