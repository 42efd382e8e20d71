"""`python -m platform.evaluate RUN`: the test evaluation again, recorded as a second opening."""

from platform._door import enter

if __name__ == "__main__":
    enter("evaluate")
