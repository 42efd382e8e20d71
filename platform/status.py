"""`python -m platform.status RUN`: what a run does at the moment, from any machine that sees its folder."""

from platform._door import enter

if __name__ == "__main__":
    enter("status")
