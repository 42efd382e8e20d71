"""`python -m platform.doctor`: what is wrong with a cluster, and the command that mends it."""

from platform._door import enter

if __name__ == "__main__":
    enter("doctor")
