"""`python -m platform.show RUN [TRIAL]`: a run, or one of its trials: why it was proposed, how it ended, its cost."""

from platform._door import enter

if __name__ == "__main__":
    enter("show")
