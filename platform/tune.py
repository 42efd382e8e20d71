"""`python -m platform.tune STUDY`: search, then the final test evaluation and the report."""

from platform._door import enter

if __name__ == "__main__":
    enter("tune")
