"""`python -m platform.serve RUN`: a page and a JSON endpoint that label images by a run's best model."""

from platform._door import enter

if __name__ == "__main__":
    enter("serve")
