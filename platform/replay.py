"""`python -m platform.replay RUN TRIAL`: trains a trial again, and says whether it came out the same."""

from platform._door import enter

if __name__ == "__main__":
    enter("replay")
